//! The objects in use lately: kept open and mapped, so that serving one again opens nothing.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

use super::object::Object;
use crate::digest::Sha256;

/// How many objects are kept open at most: enough for what a release day asks for again and again.
const MOST: u64 = 512;

/// How many at least, however few files the process may open.
const LEAST: u64 = 16;

/// A bounded set of open objects; the least recently used leaves first.
pub(super) struct Hot {
    limit: usize,
    tick: u64,
    objects: HashMap<Sha256, (u64, Arc<Object>)>,
}

impl Hot {
    pub(super) fn new() -> Self {
        // Every kept object is an open file; three quarters of those we may open are for sockets.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let limit = (files / 4).clamp(LEAST, MOST);
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), tick: 0, objects: HashMap::new() }
    }

    pub(super) fn get(&mut self, id: &Sha256) -> Option<Arc<Object>> {
        self.tick += 1;
        let (used, object) = self.objects.get_mut(id)?;
        *used = self.tick;
        Some(Arc::clone(object))
    }

    /// Keeps `object`. Returns what leaves for it, to be dropped outside of the lock: unmapping takes its time.
    pub(super) fn insert(&mut self, object: Arc<Object>) -> [Option<Arc<Object>>; 2] {
        let oldest = if self.objects.len() >= self.limit && !self.objects.contains_key(&object.id()) {
            self.objects.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        } else {
            None
        };
        let pushed_out = oldest.and_then(|id| self.remove(&id));
        self.tick += 1;
        let replaced = self.objects.insert(object.id(), (self.tick, object)).map(|(_, object)| object);
        [pushed_out, replaced]
    }

    pub(super) fn remove(&mut self, id: &Sha256) -> Option<Arc<Object>> {
        self.objects.remove(id).map(|(_, object)| object)
    }

    #[cfg(test)]
    pub(super) fn with_limit(limit: usize) -> Self {
        Self { limit, ..Self::new() }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Stamp;
    use crate::store::object::Parts;
    use bytes::Bytes;
    use std::sync::Weak;

    fn object(name: &[u8]) -> Arc<Object> {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let stamp = Stamp::of(&file).unwrap();
        let parts = Parts {
            id: Sha256::of(name),
            geometry: crate::pieces::Geometry::new(0).unwrap(),
            states: Vec::new(),
            last_modified: None,
            file,
            whole: Some(Bytes::new()),
            place: None,
            store: Weak::new(),
        };
        Arc::new(Object::new(parts, stamp, vec![false; 1]))
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut hot = Hot::with_limit(2);
        hot.insert(object(b"a"));
        hot.insert(object(b"b"));
        hot.get(&Sha256::of(b"a")).unwrap();
        let left = hot.insert(object(b"c"));
        assert_eq!(left[0].as_ref().unwrap().id(), Sha256::of(b"b"));
        assert!(hot.get(&Sha256::of(b"a")).is_some());
        assert_eq!(hot.len(), 2);
    }

    #[test]
    fn an_object_replaces_itself_without_pushing_another_out() {
        let mut hot = Hot::with_limit(2);
        hot.insert(object(b"a"));
        hot.insert(object(b"b"));
        let left = hot.insert(object(b"b"));
        assert!(left[0].is_none() && left[1].is_some());
        assert_eq!(hot.len(), 2);
    }
}
