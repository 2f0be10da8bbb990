//! Values that may be written in several shapes: one or a list, a word or a map.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize as Derive;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::values::{PathText, ServiceRef, Span, is_off};

/// A list, or one element of it without the brackets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct OneOrManyVisit<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisit<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany<T>, E> {
        T::deserialize(Scalar(text, PhantomData)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<OneOrMany<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneOrMany<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            all.push(one);
        }
        Ok(OneOrMany(all))
    }
}

/// One word on its own, with the same leniency a node has.
struct Scalar<'a, E>(&'a str, PhantomData<E>);

impl<'de, E: Error> Deserializer<'de> for Scalar<'_, E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_str(self.0)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        let number = crate::de::parse_integer(self.0).and_then(|number| i32::try_from(number).ok());
        match number {
            Some(number) => visitor.visit_i32(number),
            None => {
                Err(E::custom(format!("expected a whole number, found `{}`", crate::node::shortened(self.0))))
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, E> {
        visitor.visit_enum(serde::de::value::StrDeserializer::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(OneOrManyVisit(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// Something that `off` switches off and `on` leaves at its defaults.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Toggle<T> {
    Off,
    Set(T),
}

struct ToggleVisit<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ToggleVisit<T> {
    type Value = Toggle<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, or `off`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Toggle<T>, E> {
        Ok(if on { Toggle::Set(T::default()) } else { Toggle::Off })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Toggle<T>, E> {
        match text.trim() {
            word if is_off(word) => Ok(Toggle::Off),
            "on" | "true" | "yes" => Ok(Toggle::Set(T::default())),
            other => {
                Err(E::custom(format!("expected a map, or `off`, found `{}`", crate::node::shortened(other))))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Toggle<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Toggle::Set)
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Toggle<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToggleVisit(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Toggle<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Toggle{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let set = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "enum": ["off", "on", "no", "yes", false, true] }, set] })
    }
}

/// A command: a string, or a list that is executed as it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CommandText {
    Text(String),
    List(Vec<String>),
}

struct CommandVisit;

impl<'de> Visitor<'de> for CommandVisit {
    type Value = CommandText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command (a string, or a list of strings)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CommandText, E> {
        Ok(CommandText::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<CommandText, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(CommandText::List)
    }
}

impl<'de> Deserialize<'de> for CommandText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisit)
    }
}

impl JsonSchema for CommandText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": { "type": ["string", "number", "boolean"] }, "minItems": 1 }
            ],
            "x-form": "string or list"
        })
    }
}

/// A hook: a command, or a command with the time it may take.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHookMap {
    /// What is run, with the environment, the folder and the user of the service.
    pub(crate) command: Option<CommandText>,
    /// How long it may take before it is killed.
    #[schemars(extend("x-default" = "60s"))]
    pub(crate) timeout: Option<Span>,
}

/// See [`RawHookMap`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawHook(pub(crate) RawHookMap);

struct HookVisit;

impl<'de> Visitor<'de> for HookVisit {
    type Value = RawHook;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command, or a map with `command` and `timeout`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawHook, E> {
        Ok(RawHook(RawHookMap { command: Some(CommandText::Text(text.to_owned())), timeout: None }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawHook, A::Error> {
        let command = CommandVisit.visit_seq(seq)?;
        Ok(RawHook(RawHookMap { command: Some(command), timeout: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawHook, A::Error> {
        RawHookMap::deserialize(MapAccessDeserializer::new(map)).map(RawHook)
    }
}

impl<'de> Deserialize<'de> for RawHook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HookVisit)
    }
}

impl JsonSchema for RawHook {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Hook".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let command = generator.subschema_for::<CommandText>();
        let map = generator.subschema_for::<RawHookMap>();
        json_schema!({ "anyOf": [command, map] })
    }
}

/// Names and values; a name without a value is left as relume has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RawEnvironment(pub(crate) Vec<(String, Option<String>)>);

struct EnvironmentVisit;

impl<'de> Visitor<'de> for EnvironmentVisit {
    type Value = RawEnvironment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names and values, or a list of `NAME=VALUE`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEnvironment, A::Error> {
        let mut all = Vec::new();
        while let Some(EnvName(name)) = map.next_key()? {
            let value = map.next_value::<Option<String>>()?;
            if value.as_ref().is_some_and(|value| value.contains('\0')) {
                return Err(A::Error::custom(format!("the value of `{name}` contains a NUL byte")));
            }
            all.push((name, value));
        }
        Ok(RawEnvironment(all))
    }
}

struct EnvName(String);

impl<'de> Deserialize<'de> for EnvName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match crate::dotenv::name_problem(&name) {
            Some(problem) => Err(D::Error::custom(problem)),
            None => Ok(Self(name)),
        }
    }
}

impl<'de> Deserialize<'de> for RawEnvironment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvironmentVisit)
    }
}

impl JsonSchema for RawEnvironment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Environment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] } },
                { "type": "array", "items": { "type": "string" } }
            ],
            "x-form": "map, or list of `NAME=VALUE`"
        })
    }
}

/// A file of `NAME=VALUE` lines.
#[derive(Debug, Clone, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEnvFileMap {
    /// The file.
    pub(crate) path: Option<PathText>,
    /// Whether it is an error when there is no such file.
    #[schemars(extend("x-default" = "true"))]
    pub(crate) required: Option<bool>,
    /// A file that it is made from, once, mode 0600, when there is none yet.
    pub(crate) template: Option<PathText>,
}

/// See [`RawEnvFileMap`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawEnvFile(pub(crate) RawEnvFileMap);

struct EnvFileVisit;

impl<'de> Visitor<'de> for EnvFileVisit {
    type Value = RawEnvFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or a map with `path`, `required` and `template`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawEnvFile, E> {
        let path = PathText::deserialize(IntoDeserializer::<E>::into_deserializer(text))?;
        Ok(RawEnvFile(RawEnvFileMap { path: Some(path), ..RawEnvFileMap::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEnvFile, A::Error> {
        let map = RawEnvFileMap::deserialize(MapAccessDeserializer::new(map))?;
        if map.path.is_none() {
            Err(A::Error::custom("an `env_file` needs a `path`"))
        } else {
            Ok(RawEnvFile(map))
        }
    }
}

impl<'de> Deserialize<'de> for RawEnvFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EnvFileVisit)
    }
}

impl JsonSchema for RawEnvFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "EnvFile".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<RawEnvFileMap>();
        json_schema!({ "anyOf": [{ "type": "string" }, map] })
    }
}

/// What a service waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Derive, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDependency {
    /// The state that is waited for.
    #[schemars(extend("x-default" = "ready"))]
    pub(crate) condition: Option<RawCondition>,
    /// Whether this service is restarted when the other one goes down.
    #[schemars(extend("x-default" = "false"))]
    pub(crate) restart: Option<bool>,
}

/// The state of another service.
#[derive(Debug, Clone, Copy, PartialEq, Derive, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RawCondition {
    /// Its process exists.
    #[serde(alias = "service_started", alias = "process_started")]
    Started,
    /// It is ready; a oneshot has completed.
    #[serde(
        alias = "healthy",
        alias = "service_healthy",
        alias = "process_healthy",
        alias = "process_log_ready"
    )]
    Ready,
    /// It has ended with success.
    #[serde(
        alias = "service_completed_successfully",
        alias = "process_completed_successfully",
        alias = "process_completed"
    )]
    Completed,
}

/// Names, or names with conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RawDependencies(pub(crate) Vec<(String, RawDependency)>);

struct DependenciesVisit;

impl<'de> Visitor<'de> for DependenciesVisit {
    type Value = RawDependencies;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of services, or a map of services and conditions")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawDependencies, E> {
        let name = ServiceRef::deserialize(IntoDeserializer::<E>::into_deserializer(text))?;
        Ok(RawDependencies(vec![(name.0, RawDependency::default())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawDependencies, A::Error> {
        let mut all: Vec<(String, RawDependency)> = Vec::new();
        while let Some(ServiceRef(name)) = seq.next_element()? {
            all.push((name, RawDependency::default()));
        }
        Ok(RawDependencies(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawDependencies, A::Error> {
        let mut all = Vec::new();
        while let Some(ServiceRef(name)) = map.next_key()? {
            all.push((name, map.next_value::<Option<RawDependency>>()?.unwrap_or_default()));
        }
        Ok(RawDependencies(all))
    }
}

impl<'de> Deserialize<'de> for RawDependencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(DependenciesVisit)
    }
}

impl JsonSchema for RawDependencies {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Dependencies".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RawDependency>();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" } },
                { "type": "object", "additionalProperties": { "anyOf": [one, { "type": "null" }] } }
            ],
            "x-form": "list of names, or map name → `{condition, restart}`"
        })
    }
}
