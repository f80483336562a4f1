//! Names, checked once. Parsing is the only way in; afterwards a name is just a value.
//!
//! Every name is safe to write between JSON quotes as it is: no control characters, no quote, no backslash.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits;

/// Whom the service's own messages are from; no peer may have this name.
pub const SERVICE: &str = "registry";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than [`limits::MAX_NAME_BYTES`].
    #[error("must be at most {} bytes", limits::MAX_NAME_BYTES)]
    TooLong,
    /// The text holds a control character, a quote or a backslash.
    #[error("must not contain control characters, quotes or backslashes")]
    BadCharacter,
    /// The text is [`SERVICE`], which clients believe.
    #[error("must not be {SERVICE:?}, the name of the service itself")]
    Reserved,
}

fn check(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > limits::MAX_NAME_BYTES {
        return Err(InvalidName::TooLong);
    }
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(InvalidName::BadCharacter);
    }
    if text == SERVICE {
        return Err(InvalidName::Reserved);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text; at most [`limits::MAX_NAME_BYTES`] bytes, no control characters, quotes or
            /// backslashes, not [`SERVICE`].
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // `Borrow<str>` lets maps be asked with a borrowed field of a frame; `Hash` of `Arc<str>` is that of `str`.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// An identity in the pairing service, unique within its mesh.
    PeerId
);
name!(
    /// A tenant. Peers of one mesh never see another's.
    MeshName
);
name!(
    /// A gateway node; random per boot, so that a restarted node is never mistaken for its former self.
    GatewayId
);

name!(
    /// A named group within a mesh.
    RoomName
);

impl PeerId {
    /// Whoever has not said yet who it is. No name is empty, so nobody is called so.
    pub fn nobody() -> Self {
        Self(Arc::from(""))
    }
}

impl MeshName {
    /// The mesh of whoever names none.
    pub fn default_mesh() -> Self {
        Self(Arc::from("default"))
    }
}

/// Between mesh and room in the text of a space; neither name can hold it.
const ROOM_MARK: char = '\\';

/// What has members, one order of them and a channel: a mesh, or a room of a mesh.
///
/// Its text is that of the mesh, or `MESH\ROOM`; no two spaces share one.
#[derive(Clone)]
pub struct SpaceName {
    mesh: MeshName,
    text: Arc<str>,
}

impl SpaceName {
    /// A room of a mesh.
    pub fn room_of(mesh: &MeshName, room: &RoomName) -> Self {
        Self { mesh: mesh.clone(), text: format!("{mesh}{ROOM_MARK}{room}").into() }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.split_once(ROOM_MARK) {
            Some((mesh, room)) => Ok(Self::room_of(&MeshName::parse(mesh)?, &RoomName::parse(room)?)),
            None => MeshName::parse(text).map(Self::from),
        }
    }

    /// The tenant.
    pub fn mesh(&self) -> &MeshName {
        &self.mesh
    }

    /// The room's name; `None` for the mesh itself.
    pub fn room(&self) -> Option<&str> {
        self.text.split_once(ROOM_MARK).map(|(_, room)| room)
    }

    /// Whether it is a room.
    pub fn is_room(&self) -> bool {
        self.text.len() != self.mesh.as_str().len()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<MeshName> for SpaceName {
    fn from(mesh: MeshName) -> Self {
        Self { text: Arc::clone(&mesh.0), mesh }
    }
}

// All by the text alone, which says the mesh too.
impl PartialEq for SpaceName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpaceName {}

impl std::hash::Hash for SpaceName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for SpaceName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpaceName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

/// Counts the sessions of a peer cluster-wide: of two sessions of one peer, the higher epoch is the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Counts state changes of the pairing service, without gaps: change `n` is row `n` of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_seeds_use() {
        for text in ["agent-001", "agent-e56a85", "cmwq6apsx0000ms7de6kdk46z", "Wohnzimmer Süd", "1"] {
            assert_eq!(PeerId::parse(text).map(|id| id.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_could_break_a_frame_or_a_log_line() {
        assert_eq!(PeerId::parse(""), Err(InvalidName::Empty));
        assert_eq!(PeerId::parse(&"x".repeat(129)), Err(InvalidName::TooLong));
        for text in ["a\nb", "a\"b", "a\\b", "\u{0}", "\u{7f}", "\u{85}"] {
            assert_eq!(PeerId::parse(text), Err(InvalidName::BadCharacter), "{text:?}");
        }
    }

    #[test]
    fn a_space_is_a_mesh_or_a_room_of_it() {
        let mesh = MeshName::parse("factory").unwrap();
        let itself = SpaceName::from(mesh.clone());
        assert_eq!((itself.as_str(), itself.room(), itself.is_room()), ("factory", None, false));
        let room = SpaceName::room_of(&mesh, &RoomName::parse("hall: 1").unwrap());
        assert_eq!((room.as_str(), room.room(), room.is_room()), ("factory\\hall: 1", Some("hall: 1"), true));
        assert_eq!(room.mesh(), itself.mesh());
        assert_ne!(room, itself);
        for space in [itself, room] {
            assert_eq!(SpaceName::parse(space.as_str()), Ok(space));
        }
        for text in ["", "\\", "a\\", "\\a", "a\\b\\c", "a\\b\n"] {
            assert!(SpaceName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn no_peer_can_speak_as_the_service() {
        assert_eq!(PeerId::parse(SERVICE), Err(InvalidName::Reserved));
        assert!(PeerId::parse("registry-2").is_ok());
    }
}
