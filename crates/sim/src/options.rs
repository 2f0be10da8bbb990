//! Every knob of a run, drawn from its seed. In the manner of a swarm: each run leaves out most kinds of
//! trouble and has much of the rest, because rare combinations of common faults hide more than a uniform
//! mixture of all.

use crate::dice::Dice;
use crate::programs::Nuisance;

/// The knobs of one run. Chances are in thousandths.
#[derive(Debug, Clone)]
pub struct Options {
    /// Services at the beginning.
    pub services: usize,
    /// Steps of the first phase, with faults.
    pub steps: u64,
    /// Which misbehaviours its programs have.
    pub nuisances: Vec<Nuisance>,
    /// That a program misbehaves at all.
    pub misbehaves: u32,
    /// That a service has each hook.
    pub hooked: u32,
    /// That a service depends on each one before it.
    pub depends: u32,
    /// That a time limit is off.
    pub limitless: u32,
    /// That a limit of time is zero.
    pub instant: u32,
    /// Milliseconds between two acts of the operator, at most.
    pub pause: u64,
    /// Which acts the operator knows, by weight; see `operator`.
    pub acts: Vec<(crate::operator::Act, u64)>,
    /// What goes wrong.
    pub faults: FaultOptions,
}

/// How often what goes wrong. Chances are in thousandths.
#[derive(Debug, Clone, Default)]
pub struct FaultOptions {
    /// That the manager dies in a step.
    pub dies: u32,
    /// That a death of the manager also tears off the last step's facts.
    pub torn: u32,
    /// That a death takes the keeper of exits with it.
    pub keeper_dies: u32,
    /// That a spawn is refused.
    pub refused: u32,
    /// That a refusal is for want of something the machine lacks.
    pub shortage: u32,
    /// That a spawn hangs for seconds.
    pub spawn_hangs: u32,
    /// That news arrives late.
    pub late: u32,
    /// That news arrives twice.
    pub doubled: u32,
    /// That news of earlier, later or unknown runs arrives.
    pub spurious: u32,
    /// That liveness is judged bad without cause.
    pub unhealthy: u32,
    /// That a step is given a clock that went back.
    pub clock_back: u32,
    /// That the clock jumps ahead.
    pub clock_jump: u32,
}

impl Options {
    /// The knobs of this seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let services = match dice.range(0, 99) {
            0 => dice.range(9, 24),
            1..=40 => dice.range(1, 3),
            _ => dice.range(2, 6),
        };
        let nuisances: Vec<_> = Nuisance::ALL.iter().copied().filter(|_| dice.chance(350)).collect();
        Self {
            services: usize::try_from(services).unwrap_or(1),
            steps: dice.range(40, 280),
            nuisances,
            misbehaves: dice.pick(&[0, 200, 400, 800]),
            hooked: dice.pick(&[0, 0, 0, 150, 500]),
            depends: dice.pick(&[0, 200, 400, 800]),
            limitless: dice.pick(&[0, 0, 100, 400]),
            instant: dice.pick(&[0, 0, 0, 100]),
            pause: dice.pick(&[200, 2_000, 10_000, 30_000]),
            acts: crate::operator::Act::draw(&mut dice),
            faults: FaultOptions::draw(&mut dice),
        }
    }
}

impl FaultOptions {
    fn draw(dice: &mut Dice) -> Self {
        let mut some = |often: &[u32]| if dice.chance(400) { dice.pick(often) } else { 0 };
        Self {
            dies: some(&[5, 20, 100, 300]),
            torn: some(&[200, 600]),
            keeper_dies: some(&[200, 500]),
            refused: some(&[20, 200, 600]),
            shortage: some(&[300, 1000]),
            spawn_hangs: some(&[50, 200]),
            late: some(&[50, 300]),
            doubled: some(&[50, 400]),
            spurious: some(&[50, 200]),
            unhealthy: some(&[20, 100]),
            clock_back: some(&[50, 300]),
            clock_jump: some(&[10, 50]),
        }
    }
}
