//! Parts of a record that are nearly always as they are at first: a pointer while they are, a box when they are not.
//! A record is held for each of thousands of services, twice in a manager.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a part is as long as nothing has happened.
pub trait Usual: PartialEq + 'static {
    /// That.
    const USUAL: &'static Self;
}

/// A value that is usually as it is at first.
#[derive(Clone, PartialEq, Eq)]
pub struct Rare<T>(
    /// Never holds the usual value: so equal values have equal forms.
    Option<Box<T>>,
);

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::USUAL).then(|| Box::new(value)))
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::USUAL)
    }
}

impl<T: Usual> PartialEq<T> for Rare<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: Usual + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Written as what it is.
impl<T: Usual + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(to)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Count, Health};
    use crate::record::{History, Record};

    #[test]
    fn a_rare_value_is_written_and_read_as_the_value_itself() {
        let some = Health { liveness: Count { failures: 3, ..Count::default() }, ..Health::default() };
        for value in [Health::default(), some] {
            let rare = Rare::from(value.clone());
            assert_eq!(serde_json::to_string(&rare).unwrap(), serde_json::to_string(&value).unwrap());
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Rare<Health>>(&text).unwrap(), rare);
            assert_eq!(*rare, value);
        }
        assert_eq!(*Health::USUAL, Health::default());
        assert_eq!(*History::USUAL, History::default());
        assert_eq!(Rare::from(History::default()), Rare::default());
    }

    /// A bound, and no exact size: what is added to a record costs its share twice for each of thousands of services.
    #[test]
    fn a_record_is_small() {
        assert!(size_of::<Record>() <= 208, "{}", size_of::<Record>());
    }
}
