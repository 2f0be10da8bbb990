//! Listening sockets as they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize as Derive;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::values::{AccountName, Octal, Size};

/// A listening socket.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Socket")]
pub(crate) struct RawSocketMap {
    /// A port, `ADDRESS:PORT`, `[ADDRESS]:PORT`, a path, or `@NAME` (abstract). `tcp://`, `udp://` and `unix:` in front say which.
    pub(crate) listen: Option<String>,
    /// Its name in `LISTEN_FDNAMES`.
    #[schemars(extend("x-default" = "the service's name"))]
    pub(crate) name: Option<String>,
    /// `stream`, `datagram` or `seqpacket`.
    #[serde(rename = "type")]
    #[schemars(extend("x-default" = "`datagram` for `udp://`, else `stream`"))]
    pub(crate) r#type: Option<RawSocketType>,
    /// The mode of a unix socket.
    #[schemars(extend("x-default" = "0660"))]
    pub(crate) mode: Option<Octal>,
    /// Who owns a unix socket.
    #[schemars(extend("x-default" = "the service's user"))]
    pub(crate) user: Option<AccountName>,
    /// The group of a unix socket.
    #[schemars(extend("x-default" = "the service's group"))]
    pub(crate) group: Option<AccountName>,
    /// How many connections may wait to be accepted.
    #[schemars(extend("x-default" = "4096, up to `net.core.somaxconn`"))]
    pub(crate) backlog: Option<u32>,
    /// Others may listen on the same port beside it (SO_REUSEPORT).
    #[schemars(extend("x-default" = "false"))]
    pub(crate) reuse_port: Option<bool>,
    /// An IPv6 socket takes no IPv4 connections.
    #[schemars(extend("x-default" = "false"))]
    pub(crate) ipv6_only: Option<bool>,
    /// The address need not exist yet (IP_FREEBIND).
    #[schemars(extend("x-default" = "false"))]
    pub(crate) free_bind: Option<bool>,
    /// Bytes that may wait to be read (SO_RCVBUF).
    pub(crate) receive_buffer: Option<Size>,
    /// Bytes that may wait to be sent (SO_SNDBUF).
    pub(crate) send_buffer: Option<Size>,
}

/// How a socket carries data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Derive, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawSocketType {
    /// Connections.
    Stream,
    /// Single messages.
    Datagram,
    /// Connections of messages; unix only.
    Seqpacket,
}

/// An address, or a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawSocket(pub(crate) RawSocketMap);

struct SocketVisit;

impl<'de> Visitor<'de> for SocketVisit {
    type Value = RawSocket;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, an address or a map with `listen`")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<RawSocket, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawSocket, E> {
        Ok(RawSocket(RawSocketMap { listen: Some(text.trim().to_owned()), ..RawSocketMap::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSocket, A::Error> {
        RawSocketMap::deserialize(MapAccessDeserializer::new(map)).map(RawSocket)
    }
}

impl<'de> Deserialize<'de> for RawSocket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SocketVisit)
    }
}

impl JsonSchema for RawSocket {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SocketForm".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<RawSocketMap>();
        json_schema!({ "anyOf": [{ "type": ["string", "integer"] }, map] })
    }
}

/// One socket, a list of them, or a map from their names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawSockets(pub(crate) Vec<RawSocket>);

/// What a map that is one socket may begin with; any other first key is a name.
const KEYS: [&str; 12] = [
    "listen",
    "name",
    "type",
    "mode",
    "user",
    "group",
    "backlog",
    "reuse_port",
    "ipv6_only",
    "free_bind",
    "receive_buffer",
    "send_buffer",
];

struct SocketsVisit;

impl<'de> Visitor<'de> for SocketsVisit {
    type Value = RawSockets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, an address, a list of them, or a map from names to them")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<RawSockets, E> {
        SocketVisit.visit_i64(number).map(|one| RawSockets(vec![one]))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawSockets, E> {
        SocketVisit.visit_str(text).map(|one| RawSockets(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawSockets, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            all.push(one);
        }
        Ok(RawSockets(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSockets, A::Error> {
        let mut key = map.next_key::<String>()?;
        if key.as_deref().is_some_and(|key| KEYS.contains(&key)) {
            let one = SocketVisit.visit_map(Begun { first: key, rest: map })?;
            return Ok(RawSockets(vec![one]));
        }
        let mut all = Vec::new();
        while let Some(name) = key {
            let RawSocket(one) = map.next_value()?;
            if one.name.as_ref().is_some_and(|other| *other != name) {
                return Err(A::Error::custom(format!("the socket `{name}` has another `name` inside")));
            }
            all.push(RawSocket(RawSocketMap { name: Some(name), ..one }));
            key = map.next_key()?;
        }
        Ok(RawSockets(all))
    }
}

/// A map whose first key has been looked at.
struct Begun<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(key) => seed.deserialize(key.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

impl<'de> Deserialize<'de> for RawSockets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SocketsVisit)
    }
}

impl JsonSchema for RawSockets {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sockets".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RawSocket>();
        let named = json_schema!({
            "type": "object",
            "propertyNames": { "not": { "enum": KEYS } },
            "additionalProperties": one,
        });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }, named] })
    }
}
