//! Event names, mask bits, and the wire format in which the kernel hands events out.
//!
//! The numbers are Linux ABI (`linux/inotify.h`); `sys::inotify` asserts them against libc.

use crate::types::Wd;

macro_rules! kinds {
    ($($variant:ident $name:literal $bit:literal $help:literal,)*) => {
        /// One of the fifteen events that an event map can name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind {
            $(#[doc = $help] $variant,)*
        }

        impl EventKind {
            /// All of them, in the order of the kernel's bits.
            pub const ALL: [Self; EVENT_KINDS] = [$(Self::$variant,)*];

            /// The name used in configuration, logs and commands, such as `IN_CREATE`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The kernel's mask bit.
            #[must_use]
            pub const fn bit(self) -> u32 {
                match self { $(Self::$variant => $bit,)* }
            }

            /// One line for `--list` and the manual.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

/// How many event names there are.
pub const EVENT_KINDS: usize = 15;

kinds! {
    Access "IN_ACCESS" 0x1 "a file was read",
    Modify "IN_MODIFY" 0x2 "a file was written or truncated",
    Attrib "IN_ATTRIB" 0x4 "metadata changed: mode, owner, times, link count",
    CloseWrite "IN_CLOSE_WRITE" 0x8 "a file opened for writing was closed",
    CloseNowrite "IN_CLOSE_NOWRITE" 0x10 "a file or directory not opened for writing was closed",
    Open "IN_OPEN" 0x20 "a file or directory was opened",
    MovedFrom "IN_MOVED_FROM" 0x40 "a file or directory was renamed: its old name",
    MovedTo "IN_MOVED_TO" 0x80 "a file or directory was renamed: its new name",
    Create "IN_CREATE" 0x100 "a file or directory was created",
    Delete "IN_DELETE" 0x200 "a file or directory was deleted",
    DeleteSelf "IN_DELETE_SELF" 0x400 "a watched directory itself was deleted",
    MoveSelf "IN_MOVE_SELF" 0x800 "a watched directory itself was moved",
    Unmount "IN_UNMOUNT" 0x2000 "the filesystem of a watched directory was unmounted",
    QOverflow "IN_Q_OVERFLOW" 0x4000 "the kernel dropped events",
    Ignored "IN_IGNORED" 0x8000 "a watch was removed",
}

/// Set in the mask of an event whose subject is a directory.
pub const IN_ISDIR: u32 = 0x4000_0000;

impl EventKind {
    /// The bits that `inotify_add_watch(2)` accepts; the kernel reports the other three by itself.
    pub const REQUESTABLE: u32 = 0xfff;

    /// The kind with this name; exact, case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind that a mask read from the kernel stands for. The kernel sets one kind per event.
    #[must_use]
    pub fn from_mask(mask: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| mask & kind.bit() != 0)
    }
}

/// Bytes before the name in a `struct inotify_event`.
pub const HEADER_SIZE: usize = 16;

/// The largest event: a name of 255 bytes and its NUL.
pub const SIZE_MAX: usize = HEADER_SIZE + 256;

/// One event as read from the inotify descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// Which watch; -1 for IN_Q_OVERFLOW.
    pub wd: Wd,
    /// Kind and flags.
    pub mask: u32,
    /// Joins the two halves of a rename; 0 otherwise.
    pub cookie: u32,
    /// Name within the watched directory, without the padding; empty for the directory itself.
    pub name: &'a [u8],
}

/// Reads the events out of one buffer filled by `read(2)`; see `inotify(7)`.
///
/// Yields each event with the number of bytes it took. Stops at a truncated event, which the
/// kernel does not produce.
pub fn parse(mut buffer: &[u8]) -> impl Iterator<Item = (RawEvent<'_>, usize)> {
    std::iter::from_fn(move || {
        let header = buffer.get(..HEADER_SIZE)?;
        let word =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let size = HEADER_SIZE.checked_add(word(12) as usize)?;
        let padded = buffer.get(HEADER_SIZE..size)?;
        let name = padded.split(|&byte| byte == 0).next().unwrap_or_default();
        let event = RawEvent { wd: Wd(word(0).cast_signed()), mask: word(4), cookie: word(8), name };
        buffer = &buffer[size..];
        Some((event, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(wd: i32, mask: u32, cookie: u32, padded: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(wd.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend(cookie.to_ne_bytes());
        bytes.extend(u32::try_from(padded.len()).unwrap().to_ne_bytes());
        bytes.extend(padded);
        bytes
    }

    #[test]
    fn names_and_bits_are_distinct_and_found_again() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(kind));
            assert_eq!(EventKind::from_mask(kind.bit() | IN_ISDIR), Some(kind));
        }
        assert_eq!(EventKind::from_name("in_create"), None);
        assert_eq!(EventKind::from_mask(IN_ISDIR), None);
    }

    #[test]
    fn parses_padded_names_and_stops_at_a_truncated_event() {
        let mut buffer = wire(3, 0x100, 0, b"a b\xff\0\0\0\0");
        buffer.extend(wire(4, 0x40, 7, b""));
        let whole = buffer.len();
        buffer.extend(&wire(5, 0x40, 7, b"cut\0")[..18]);
        let events: Vec<_> = parse(&buffer).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].0, RawEvent { wd: Wd(3), mask: 0x100, cookie: 0, name: b"a b\xff" });
        assert_eq!(events[1].0.name, b"");
        assert_eq!(events.iter().map(|event| event.1).sum::<usize>(), whole);
    }

    #[test]
    fn a_length_beyond_the_buffer_ends_the_reading() {
        let mut bytes = wire(1, 1, 0, b"");
        bytes[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(parse(&bytes).count(), 0);
    }
}
