//! A scenario is a test and a row of the list that the table is made from.

use super::World;
use super::world::Reached;

/// One scenario: its sentence, and the story.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// The sentence, with underscores for blanks.
    pub(crate) name: &'static str,
    pub(crate) story: fn(&mut World),
}

impl Scenario {
    /// Tells the story; which pairs of state and event it reached.
    pub(crate) fn play(&self) -> Vec<Reached> {
        let mut world = World::new();
        (self.story)(&mut world);
        world.finish()
    }
}

/// Makes of each function a test, and of all of them the module's list `ALL`.
macro_rules! scenarios {
    ($( $(#[$meta:meta])* fn $name:ident($world:ident) $body:block )*) => {
        /// The scenarios of this subject.
        pub(crate) const ALL: &[$crate::support::Scenario] = &[$(
            $crate::support::Scenario {
                name: stringify!($name),
                story: { fn $name($world: &mut $crate::support::World) $body $name },
            },
        )*];
        $( $(#[$meta])* #[test] fn $name() {
            let found = ALL.iter().find(|scenario| scenario.name == stringify!($name));
            found.expect("each scenario is in its own list").play();
        } )*
    };
}
pub(crate) use scenarios;
