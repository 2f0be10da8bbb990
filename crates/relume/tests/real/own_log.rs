//! relume's own log.
