//! Is proto/csi.proto the published CSI 1.13? Both are printed as lines, one per fact, and compared.
#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::time::Duration;

use mountpod::csi::api::FILE_DESCRIPTOR_SET;
use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, FileDescriptor, Kind,
    MessageDescriptor, ServiceDescriptor, Value,
};
use tokio::process::Command;

#[path = "lib/go_tools.rs"]
mod go_tools;

/// The program only prints; measured below 0.1 s.
const PRINT_LIMIT: Duration = Duration::from_secs(30);

/// Facts of ours that the published 1.13 does not have: VolumeCondition, as 1.12 had it, for older callers.
const ONLY_OURS: &[&str] = &[
    "message csi.v1.VolumeCondition",
    "field csi.v1.VolumeCondition.abnormal number=1 type=bool label=single oneof=- json=abnormal presence=false packed=false secret=false",
    "field csi.v1.VolumeCondition.message number=2 type=string label=single oneof=- json=message presence=false packed=false secret=false",
    "field csi.v1.ListVolumesResponse.VolumeStatus.volume_condition number=2 type=csi.v1.VolumeCondition label=single oneof=- json=volumeCondition presence=true packed=false secret=false",
    "field csi.v1.ControllerGetVolumeResponse.VolumeStatus.volume_condition number=2 type=csi.v1.VolumeCondition label=single oneof=- json=volumeCondition presence=true packed=false secret=false",
    "field csi.v1.NodeGetVolumeStatsResponse.volume_condition number=2 type=csi.v1.VolumeCondition label=single oneof=- json=volumeCondition presence=true packed=false secret=false",
    "value csi.v1.ControllerServiceCapability.RPC.Type.VOLUME_CONDITION number=11",
    "value csi.v1.NodeServiceCapability.RPC.Type.VOLUME_CONDITION number=4",
];

/// Published facts that ours lack, all without effect on the wire.
const ONLY_PUBLISHED: &[&str] = &[
    // 1.13 reserves the numbers that VolumeCondition had; ours uses them for it.
    "reserved csi.v1.ListVolumesResponse.VolumeStatus from=2 until=3",
    "reserved csi.v1.ControllerGetVolumeResponse.VolumeStatus from=2 until=3",
    "reserved csi.v1.NodeGetVolumeStatsResponse from=2 until=3",
    "reserved csi.v1.ControllerServiceCapability.RPC.Type from=11 until=12",
    "reserved csi.v1.NodeServiceCapability.RPC.Type from=4 until=5",
    // The alpha marks say how mature a name is, to people.
    "extension csi.v1.alpha_enum of=google.protobuf.EnumOptions number=1060 type=bool label=single",
    "extension csi.v1.alpha_enum_value of=google.protobuf.EnumValueOptions number=1060 type=bool label=single",
    "extension csi.v1.alpha_field of=google.protobuf.FieldOptions number=1060 type=bool label=single",
    "extension csi.v1.alpha_message of=google.protobuf.MessageOptions number=1060 type=bool label=single",
    "extension csi.v1.alpha_method of=google.protobuf.MethodOptions number=1060 type=bool label=single",
    "extension csi.v1.alpha_service of=google.protobuf.ServiceOptions number=1060 type=bool label=single",
];

#[tokio::test]
async fn our_csi_proto_says_what_the_published_one_says() {
    let published = published_facts().await;
    let ours = our_facts();
    assert!(published.len() > 400, "the published descriptor gave only {} facts", published.len());

    assert_differs_only_by(&ours, &published, ONLY_OURS, "only in ours");
    assert_differs_only_by(&published, &ours, ONLY_PUBLISHED, "only in the published one");
}

/// The facts that `others` lack are exactly the allowed ones.
fn assert_differs_only_by(
    facts: &BTreeSet<String>,
    others: &BTreeSet<String>,
    allowed: &[&str],
    place: &str,
) {
    let found: BTreeSet<_> = facts.difference(others).map(String::as_str).collect();
    let allowed: BTreeSet<_> = allowed.iter().copied().collect();
    let unexpected: Vec<_> = found.difference(&allowed).collect();
    assert!(unexpected.is_empty(), "{place}: {unexpected:#?}");
    let gone: Vec<_> = allowed.difference(&found).collect();
    assert!(gone.is_empty(), "allowed to be {place}, but no difference any more: {gone:#?}");
}

/// What the published Go package says, printed by tests/go/descriptor.
async fn published_facts() -> BTreeSet<String> {
    let descriptor = go_tools::go_tool("descriptor").await;
    let run = Command::new(&descriptor).kill_on_drop(true).output();
    let printed = tokio::time::timeout(PRINT_LIMIT, run)
        .await
        .expect("descriptor ends within its limit")
        .expect("descriptor starts");
    assert!(printed.status.success(), "descriptor failed: {}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).expect("descriptor prints UTF-8").lines().map(str::to_owned).collect()
}

/// What proto/csi.proto says, in the same words.
fn our_facts() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("build.rs wrote a descriptor set");
    let file = pool.get_file_by_name("csi.proto").expect("it holds csi.proto");
    let secret = pool.get_extension_by_name("csi.v1.csi_secret").expect("csi.proto defines csi_secret");
    let mut facts = Facts { found: BTreeSet::new(), secret };
    facts.add_file(&file);
    facts.found
}

/// Collects one line per fact; the lines' form is that of tests/go/descriptor.
struct Facts {
    found: BTreeSet<String>,
    secret: ExtensionDescriptor,
}

impl Facts {
    fn add(&mut self, fact: String) {
        self.found.insert(fact);
    }

    fn add_file(&mut self, file: &FileDescriptor) {
        let syntax = format!("{:?}", file.syntax()).to_lowercase();
        self.add(format!("file package={} syntax={syntax}", file.package_name()));
        file.services().for_each(|service| self.add_service(&service));
        file.messages().for_each(|message| self.add_message(&message));
        file.enums().for_each(|enumeration| self.add_enum(&enumeration));
        for extension in file.extensions() {
            self.add(format!(
                "extension {} of={} number={} type={} label={}",
                extension.full_name(),
                extension.containing_message().full_name(),
                extension.number(),
                type_name(&extension.kind()),
                if extension.is_list() { "repeated" } else { "single" },
            ));
        }
    }

    fn add_service(&mut self, service: &ServiceDescriptor) {
        self.add(format!("service {}", service.full_name()));
        for method in service.methods() {
            self.add(format!(
                "method {} input={} output={} client_streams={} server_streams={}",
                method.full_name(),
                method.input().full_name(),
                method.output().full_name(),
                method.is_client_streaming(),
                method.is_server_streaming(),
            ));
        }
    }

    fn add_message(&mut self, message: &MessageDescriptor) {
        if message.is_map_entry() {
            return; // the map field says the same
        }
        let name = message.full_name();
        self.add(format!("message {name}"));
        message.fields().for_each(|field| self.add_field(&field));
        for reserved in message.reserved_ranges() {
            self.add(format!("reserved {name} from={} until={}", reserved.start, reserved.end));
        }
        message.child_messages().for_each(|child| self.add_message(&child));
        message.child_enums().for_each(|child| self.add_enum(&child));
    }

    fn add_field(&mut self, field: &FieldDescriptor) {
        let secret = field.options().get_extension(&self.secret).as_ref() == &Value::Bool(true);
        self.add(format!(
            "field {} number={} type={} label={} oneof={} json={} presence={} packed={} secret={secret}",
            field.full_name(),
            field.number(),
            type_name(&field.kind()),
            label(field),
            field.containing_oneof().map_or_else(|| "-".to_owned(), |oneof| oneof.name().to_owned()),
            field.json_name(),
            field.supports_presence(),
            field.is_packed(),
        ));
    }

    fn add_enum(&mut self, enumeration: &EnumDescriptor) {
        let name = enumeration.full_name();
        self.add(format!("enum {name}"));
        for value in enumeration.values() {
            self.add(format!("value {name}.{} number={}", value.name(), value.number()));
        }
        for reserved in enumeration.reserved_ranges() {
            self.add(format!("reserved {name} from={} until={}", reserved.start(), reserved.end() + 1));
        }
    }
}

fn label(field: &FieldDescriptor) -> &'static str {
    match field.cardinality() {
        _ if field.is_map() => "map",
        Cardinality::Repeated => "repeated",
        Cardinality::Optional | Cardinality::Required => "single",
    }
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(entry) if entry.is_map_entry() => {
            let key = type_name(&entry.map_entry_key_field().kind());
            let value = type_name(&entry.map_entry_value_field().kind());
            format!("<{key},{value}>")
        }
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}
