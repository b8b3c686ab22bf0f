//! In which ways can a request be spoiled, one field at a time?

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A request of which one field is spoiled.
pub(crate) struct Spoiled {
    /// The field's own name.
    pub(crate) field: String,
    /// The way to it, for people.
    pub(crate) path: String,
    /// How it is spoiled.
    pub(crate) way: &'static str,
    pub(crate) request: DynamicMessage,
}

/// Every way to spoil every field that a request has, also those of messages in it.
pub(crate) fn spoil(good: &DynamicMessage) -> Vec<Spoiled> {
    let mut all = Vec::new();
    walk(good, "", &mut |field, path, way, request| {
        all.push(Spoiled { field: field.to_owned(), path: path.to_owned(), way, request });
    });
    all
}

type Visit<'a> = dyn FnMut(&str, &str, &'static str, DynamicMessage) + 'a;

fn walk(message: &DynamicMessage, above: &str, visit: &mut Visit<'_>) {
    for field in message.descriptor().fields() {
        let path = format!("{above}{}", field.name());
        let has = message.has_field(&field);
        if field.containing_oneof().is_some() && !has {
            // The other member of a oneof: setting it alone is a way to spoil only where this driver lacks it.
            if field.name() == "block" {
                visit("block", &path, "other", with(message, &field, default_message(&field)));
            }
            continue;
        }
        for (way, value) in ways(&field) {
            let mut spoiled = message.clone();
            match value {
                None if !has && !field.is_map() => continue,
                None => spoiled.clear_field(&field),
                Some(value) => spoiled.set_field(&field, value),
            }
            visit(reported(&field), &path, way, spoiled);
        }
        if has {
            walk_inside(message, &field, &path, visit);
        }
    }
}

/// A oneof that is missing is named as a whole.
fn reported(field: &FieldDescriptor) -> &str {
    match (field.name(), field.containing_oneof().is_some()) {
        ("mount", true) => "access_type",
        ("snapshot" | "volume", true) => "volume_content_source.type",
        (_, _) => field_name(field),
    }
}

fn field_name(field: &FieldDescriptor) -> &str {
    // The descriptor's pool outlives the test; the name is borrowed from the field.
    field.name()
}

fn walk_inside(message: &DynamicMessage, field: &FieldDescriptor, path: &str, visit: &mut Visit<'_>) {
    match message.get_field(field).as_ref() {
        Value::Message(inner) => walk(inner, &format!("{path}."), &mut |name, path, way, inner| {
            visit(name, path, way, with(message, field, Value::Message(inner)));
        }),
        Value::List(items) => {
            let Some(Value::Message(first)) = items.first() else { return };
            walk(first, &format!("{path}[0]."), &mut |name, path, way, inner| {
                let mut items = items.clone();
                items[0] = Value::Message(inner);
                visit(name, path, way, with(message, field, Value::List(items)));
            });
        }
        _ => {}
    }
}

fn with(message: &DynamicMessage, field: &FieldDescriptor, value: Value) -> DynamicMessage {
    let mut changed = message.clone();
    changed.set_field(field, value);
    changed
}

fn default_message(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::Message(descriptor) => Value::Message(DynamicMessage::new(descriptor)),
        kind => panic!("{} is a {kind:?}", field.full_name()),
    }
}

/// Ways to spoil a field of its kind; `None` is to leave it out.
fn ways(field: &FieldDescriptor) -> Vec<(&'static str, Option<Value>)> {
    let is_path = field.name().ends_with("_path");
    let mut ways = vec![("missing", None)];
    if field.is_map() {
        ways.extend(maps(field).into_iter().map(|(way, map)| (way, Some(map))));
        return ways;
    }
    if field.is_list() {
        if matches!(field.kind(), Kind::String) {
            let flag = |text: String| Some(Value::List(vec![Value::String(text)]));
            ways.extend([
                ("too long", flag("x".repeat(5000))),
                ("NUL", flag("a\0b".to_owned())),
                ("unknown", flag("exec-all".to_owned())),
            ]);
        }
        return ways;
    }
    let text = |text: &str| Some(Value::String(text.to_owned()));
    match field.kind() {
        Kind::String => {
            ways.extend([("too long", text(&"x".repeat(5000))), ("NUL", text("/a\0b"))]);
            let path_like = if is_path {
                ["/a/../b", "/..", "/a//b", "/a/"]
            } else {
                ["..", "//", "a/../b", "main#../x"]
            };
            ways.extend(path_like.map(|bad| ("path-like", text(bad))));
            if is_path {
                ways.push(("relative", text("some/path")));
            }
        }
        Kind::Int64 => ways.extend([
            ("negative", Some(Value::I64(-1))),
            ("negative", Some(Value::I64(i64::MIN))),
            ("absurd", Some(Value::I64(i64::MAX))),
        ]),
        Kind::Int32 => ways.extend([
            ("negative", Some(Value::I32(-1))),
            ("negative", Some(Value::I32(i32::MIN))),
            ("absurd", Some(Value::I32(i32::MAX))),
        ]),
        Kind::Enum(_) => {
            ways.extend([
                ("unknown", Some(Value::EnumNumber(999))),
                ("unknown", Some(Value::EnumNumber(-1))),
            ]);
        }
        Kind::Bool => ways = vec![("other", Some(Value::Bool(true)))],
        Kind::Message(_) => {}
        kind => panic!("{}: say how a {kind:?} is spoiled", field.full_name()),
    }
    ways
}

fn maps(field: &FieldDescriptor) -> Vec<(&'static str, Value)> {
    // Secrets may be as large as a Kubernetes Secret.
    let too_long = if field.name() == "secrets" { (1 << 20) + 1 } else { 5000 };
    let map = |key: &str, value: &str| {
        let key = MapKey::String(key.to_owned());
        Value::Map(HashMap::from([(key, Value::String(value.to_owned()))]))
    };
    vec![
        ("unknown key", map("nobody.knows-this", "x")),
        ("too long", map("key", &"x".repeat(too_long))),
        ("NUL", map("a\0b", "x")),
        ("NUL", map("password", "a\0b")),
        ("empty key", map("", "x")),
    ]
}

/// Calls a method with a request that is already encoded.
pub(crate) async fn call(
    channel: &Channel,
    service: &str,
    method: &str,
    request: Vec<u8>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = format!("/csi.v1.{service}/{method}").parse().unwrap();
    client.unary(Request::new(request), path, Raw).await.map(drop)
}

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        let left = prost::bytes::Buf::remaining(buffer);
        prost::bytes::Buf::advance(buffer, left);
        Ok(Some(()))
    }
}
