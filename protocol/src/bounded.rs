//! Lists and texts of a peer that are refused when they are too long, before anything is allocated for them: an entry of one byte on the
//! wire can be two dozen in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::id::CallId;
use crate::limits;

/// One list of a surface.
pub(crate) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(List::<String, { limits::SURFACE_LIST }>(PhantomData))
}

/// The permissions of a surface.
pub(crate) fn permissions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, bool>, D::Error> {
    deserializer.deserialize_map(Permissions)
}

/// What a node says of its calls.
pub(crate) fn calls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CallId>, D::Error> {
    deserializer.deserialize_seq(List::<CallId, { limits::RESUME_CALLS }>(PhantomData))
}

/// A text that is kept for as long as its link.
pub(crate) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() <= limits::ID_CHARS {
        Ok(text)
    } else {
        Err(D::Error::invalid_length(text.len(), &"a short text"))
    }
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let announced = entries.size_hint().unwrap_or_default();
        if announced > MOST {
            return Err(A::Error::invalid_length(announced, &self));
        }
        let mut list = Vec::with_capacity(announced);
        while let Some(entry) = entries.next_element()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            list.push(entry);
        }
        Ok(list)
    }
}

struct Permissions;

impl<'de> Visitor<'de> for Permissions {
    type Value = BTreeMap<String, bool>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} permissions", limits::SURFACE_LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, is_given)) = entries.next_entry()? {
            if map.len() == limits::SURFACE_LIST {
                return Err(A::Error::invalid_length(map.len() + 1, &self));
            }
            map.insert(name, is_given);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use crate::capability::Surface;
    use crate::frame::{Frame, FrameError, Resume};
    use crate::id::CallId;
    use crate::limits;

    #[test]
    fn a_surface_is_read_up_to_its_bound_in_both_languages() {
        for (entries, is_read) in [(limits::SURFACE_LIST, true), (limits::SURFACE_LIST + 1, false)] {
            let names = || (0..entries).map(|number| number.to_string());
            let lists = [
                Surface {
                    caps: names().collect(),
                    ..Surface::default()
                },
                Surface {
                    commands: names().collect(),
                    ..Surface::default()
                },
                Surface {
                    permissions: names().map(|name| (name, true)).collect(),
                    ..Surface::default()
                },
            ];
            for surface in lists {
                let text = serde_json::to_string(&surface).expect("writes");
                let bytes = Frame::Granted(surface.clone()).encode().expect("fits");
                let read = Frame::decode(&bytes, limits::NATIVE_FRAME);
                if is_read {
                    assert_eq!(serde_json::from_str::<Surface>(&text).expect("reads"), surface);
                    assert_eq!(read, Ok(Frame::Granted(surface)));
                } else {
                    assert!(serde_json::from_str::<Surface>(&text).is_err());
                    assert_eq!(read, Err(FrameError::Body { kind: 19 }));
                }
            }
        }
    }

    #[test]
    fn what_a_node_remembers_is_read_up_to_its_bound() {
        let call = |number: usize| CallId::new(number.to_string()).expect("a name");
        let read = |resume: Resume| {
            let bytes = Frame::Resume(resume).encode().expect("fits");
            Frame::decode(&bytes, limits::NATIVE_FRAME).is_ok()
        };
        for (more, is_read) in [(0, true), (1, false)] {
            let calls: Vec<_> = (0..limits::RESUME_CALLS + more).map(call).collect();
            let boot = "x".repeat(limits::ID_CHARS + more);
            let running = calls.clone();
            assert_eq!(
                read(Resume {
                    running,
                    ..Resume::default()
                }),
                is_read
            );
            assert_eq!(
                read(Resume {
                    finished: calls,
                    ..Resume::default()
                }),
                is_read
            );
            assert_eq!(
                read(Resume {
                    boot,
                    ..Resume::default()
                }),
                is_read
            );
        }
    }
}
