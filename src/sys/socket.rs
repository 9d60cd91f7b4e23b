//! Sockets: a Unix stream socket to accept clients at (`unix(7)`), and non-blocking sockets to send log
//! lines through.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr,
    bind, connect, getsockopt, listen as start_listening, recv, send as send_message, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::{Errno, retry};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 16;

/// Listens at this path. From the first moment on only the owner of the socket and root can connect to it.
/// Accepting does not block.
///
/// # Errors
/// EADDRINUSE when the name exists, ENAMETOOLONG, ENOENT, EACCES, EROFS, EMFILE.
pub fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The name gets the mode of the socket, less the umask (`unix_bind_bsd` in the kernel's
    // `net/unix/af_unix.c`).
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &address)?;
    start_listening(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd.into())
}

/// Whether the name is a stream socket on which no process listens.
#[must_use]
pub fn is_abandoned(path: &Path) -> bool {
    open(Peer::Path(path), true).is_err_and(|errno| errno == Errno::ECONNREFUSED)
}

/// Where a socket sends to.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// A Unix socket with this path.
    Path(&'a Path),
    /// An address of the network.
    Net(SocketAddr),
}

/// A non-blocking socket that sends there, a stream or datagrams. A stream over the network may still be
/// connecting; it has no room until then.
///
/// # Errors
/// ENOENT, ECONNREFUSED, EACCES, ENETUNREACH; EPROTOTYPE for a path of the other type; EAGAIN when
/// the backlog of the listener at a path is full.
pub fn open(peer: Peer<'_>, stream: bool) -> Result<OwnedFd, Errno> {
    let kind = if stream { SockType::Stream } else { SockType::Datagram };
    match peer {
        Peer::Path(path) => open_to(AddressFamily::Unix, kind, &UnixAddr::new(path)?),
        Peer::Net(SocketAddr::V4(address)) => open_to(AddressFamily::Inet, kind, &SockaddrIn::from(address)),
        Peer::Net(SocketAddr::V6(address)) => {
            open_to(AddressFamily::Inet6, kind, &SockaddrIn6::from(address))
        }
    }
}

fn open_to(family: AddressFamily, kind: SockType, address: &dyn SockaddrLike) -> Result<OwnedFd, Errno> {
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    match connect(fd.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// Sends a datagram, or as much as a stream has room for; returns how many bytes that was.
///
/// # Errors
/// EAGAIN when there is no room; ECONNREFUSED, ENOTCONN, EPIPE, ECONNRESET and the like when the receiver
/// is gone.
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    retry(|| send_message(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL))
}

/// Whether the peer of a stream has closed it. Bytes that the peer has sent stay unread.
#[must_use]
pub fn is_closed(fd: &OwnedFd) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    retry(|| recv(fd.as_raw_fd(), &mut [0], flags)) == Ok(0)
}

/// The user id of the peer, as of when the connection was made; for the connecting side, that of the
/// listener.
///
/// # Errors
/// None that the kernel documents for a connected socket.
pub fn peer_uid(fd: impl AsFd) -> Result<u32, Errno> {
    getsockopt(&fd, sockopt::PeerCredentials).map(|peer| peer.uid())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_the_owner_can_connect_and_is_known() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut client = UnixStream::connect(&path).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!((peer_uid(&client), peer_uid(&served)), (Ok(own), Ok(own)));
        client.write_all(b"x").unwrap();
        assert_eq!(served.read(&mut [0; 2]).unwrap(), 1);
    }

    #[test]
    fn a_socket_is_abandoned_when_no_process_listens() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("socket");
        assert!(!is_abandoned(&path), "there is none");
        let listener = listen(&path).unwrap();
        assert!(!is_abandoned(&path));
        drop(listener);
        assert!(is_abandoned(&path));
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(!is_abandoned(&path), "another kind of socket");
    }

    #[test]
    fn a_path_that_is_taken_or_too_long_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, "kept").unwrap();
        assert_eq!(listen(&path).unwrap_err(), Errno::EADDRINUSE);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        // sun_path has 108 bytes, one of them for the NUL.
        let fits = 107 - scratch.path().as_os_str().len() - 1;
        assert!(listen(&scratch.path().join("x".repeat(fits))).is_ok());
        assert_eq!(listen(&scratch.path().join("x".repeat(fits + 1))).unwrap_err(), Errno::ENAMETOOLONG);
    }
}
