//! Listening sockets as they are written.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize as Derive;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

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
