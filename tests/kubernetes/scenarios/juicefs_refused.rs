//! What is wrong with a JuiceFS volume is told on the claim and on the pod, soon and without a secret.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::told::{self, Awaited, ON_CLAIM, ON_POD};
use crate::world::World;

/// The filesystem itself, and one that is not formatted yet.
const DATABASE: u8 = 6;
const UNFORMATTED: u8 = 7;
/// Issue: the event says what is wrong within 20 s.
const LIMIT: Duration = Duration::from_secs(20);
/// What else must be told nowhere.
pub const WRONG_PASSWORD: &str = "wrong-password-hunter2";
/// As well.
pub const WRONG_KEY: &str = "wrong-secret-key-hunter2";

/// What is wrong, a word that the event must have, and the event of a new volume.
struct Wrong {
    name: &'static str,
    names: &'static str,
    new: &'static str,
}

/// On the new volume's claim or pod, and on the pod of the one that exists.
fn both(wrong: &Wrong) -> [Awaited; 2] {
    [("new", wrong.new), ("old", ON_POD)].map(|(kind, reason)| Awaited {
        object: format!("{kind}-{}", wrong.name),
        reason,
        words: vec![wrong.names],
    })
}

const WRONG: [Wrong; 5] = [
    Wrong { name: "password", names: "credentials", new: ON_CLAIM },
    Wrong { name: "bucket", names: "object storage", new: ON_CLAIM },
    Wrong { name: "secret-key", names: "object storage", new: ON_CLAIM },
    Wrong { name: "option", names: "no-such-option", new: ON_POD },
    Wrong { name: "parameter", names: "no-such-parameter", new: ON_CLAIM },
];

/// For each mistake a new volume and one that exists, all at once.
pub fn in_time(world: &World) -> Figures {
    let space = world.space("jfs-refused");
    let filesystem = Filesystem::new(&space, "refused", DATABASE);
    let servers = &filesystem.servers;
    let bucket = servers.entry("BUCKET").rsplit_once('/').expect("a URL").0.to_owned() + "/no-such-bucket";
    let (wrong, right) = (
        servers.meta_url(WRONG_PASSWORD, DATABASE),
        servers.meta_url(servers.entry("META_PASSWORD"), UNFORMATTED),
    );
    let class = |what: &str| format!("test-refused-{what}");
    filesystem.secret(&class("password"), &[("metaurl", &wrong)]);
    filesystem.secret(&class("bucket"), &[("metaurl", &right), ("bucket", &bucket)]);
    filesystem.secret(&class("secret-key"), &[("metaurl", &right), ("secret-key", WRONG_KEY)]);
    ["option", "parameter"].iter().for_each(|good| filesystem.secret(&class(good), &[]));
    let parameter = json!({"no-such-parameter": "1"});
    for Wrong { name, .. } in &WRONG {
        let parameters = if *name == "parameter" { parameter.clone() } else { json!({}) };
        let options: &[&str] = if *name == "option" { &["no-such-option=1"] } else { &[] };
        filesystem.class(&class(name), &parameters, options);
        filesystem.static_volume(&format!("old-{name}"), &class(name), &parameters, options);
    }
    WRONG.iter().for_each(|wrong| drop(space.bound(&format!("old-{}", wrong.name))));

    let begun = Instant::now();
    for Wrong { name, .. } in &WRONG {
        let (new, old) = (format!("new-{name}"), format!("old-{name}"));
        space.create("persistentvolumeclaims", &filesystem.claim_of(&class(name), &new, "64Mi"));
        space.start(&objects::pod(&old, &old, IDLE));
        if *name == "option" {
            // Only the client knows its options: a new volume is made, and its first pod is told.
            space.start(&objects::pod(&new, &new, IDLE));
        }
    }
    let figures = told::each(&space, LIMIT, begun, WRONG.iter().flat_map(both).collect());
    for Wrong { name, .. } in &WRONG {
        for kind in ["new", "old"] {
            world.api.delete(&space.path("pods", &format!("{kind}-{name}")));
        }
        world.api.delete(&space.path("persistentvolumeclaims", &format!("new-{name}")));
    }
    for Wrong { name, .. } in &WRONG {
        ["new", "old"].iter().for_each(|kind| space.gone("pods", &format!("{kind}-{name}")));
        space.gone("persistentvolumeclaims", &format!("new-{name}"));
        filesystem.give_up(&format!("old-{name}"));
    }
    observe::no_publish_left(world);
    let events: Vec<String> =
        world.api.list(&space.path("events", "")).iter().map(ToString::to_string).collect();
    no_secret_in(&events, &filesystem);
    figures
}

fn no_secret_in(texts: &[String], filesystem: &Filesystem<'_>) {
    let mut secrets = filesystem.servers.secrets();
    secrets.extend([WRONG_PASSWORD, WRONG_KEY]);
    for text in texts {
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "a secret is told: {text}");
    }
}
