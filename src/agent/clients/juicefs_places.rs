//! Where is the JuiceFS client to write, of what is not its own?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::juicefs::options::CACHE_IN_POD;
use crate::juicefs::secret::JuicefsSecret;

/// The directories and files that options and Secret name.
pub(super) fn written_to(options: &BTreeMap<String, String>, secret: &JuicefsSecret) -> Vec<PathBuf> {
    let caches = options.get("cache-dir").into_iter().flat_map(|dirs| dirs.split(':')).map(Path::new);
    let caches = caches.filter(|dir| *dir != Path::new(CACHE_IN_POD));
    let places = caches.chain(secret.places().map(|(_, file)| file));
    places.filter(|place| place.is_absolute()).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::volume::Secrets;

    fn found(cache: &str, metaurl: &str) -> Vec<PathBuf> {
        let options = BTreeMap::from([("cache-dir".to_owned(), cache.to_owned())]);
        let secrets: Secrets = [("metaurl".to_owned(), metaurl.to_owned())].into_iter().collect();
        written_to(&options, &JuicefsSecret::read(&secrets).unwrap())
    }

    #[test]
    fn caches_and_databases_on_the_node_are_written_to() {
        let (redis, none) = ("redis://h/1", Vec::<PathBuf>::new());
        for cache in ["memory", CACHE_IN_POD] {
            assert_eq!(found(cache, redis), none, "{cache}");
        }
        assert_eq!(found("memory", "sqlite3://relative.db"), none);
        assert_eq!(found("/srv/a:/srv/b", redis), [Path::new("/srv/a"), Path::new("/srv/b")]);
        let database = "sqlite3:///srv/meta.db?cache=shared";
        assert_eq!(found(CACHE_IN_POD, database), [Path::new("/srv/meta.db")]);
    }
}
