//! Sockets: one with a path to be asked at (`unix(7)`), and those to send lines through, which
//! never wait.

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

/// A socket at this path, which only its owner and root can connect to, from its first moment on.
/// It does not block.
///
/// # Errors
/// EADDRINUSE when something has the name, ENAMETOOLONG, ENOENT, EACCES, EROFS, EMFILE.
pub fn listen(path: &Path) -> Result<UnixListener, Errno> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The name gets the mode that the socket has, without what the umask takes (`unix_bind_bsd` in
    // the kernel's `net/unix/af_unix.c`).
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &address)?;
    start_listening(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd.into())
}

/// Whether the socket of this name is one that nobody listens on.
#[must_use]
pub fn is_abandoned(path: &Path) -> bool {
    open(Peer::Path(path), true).is_err_and(|errno| errno == Errno::ECONNREFUSED)
}

/// Whom to send to.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// A socket of this machine.
    Path(&'a Path),
    /// One of the network.
    Net(SocketAddr),
}

/// A socket that sends there: a stream, or datagrams. A stream over the network may still be
/// connecting, and has no room until it is.
///
/// # Errors
/// ENOENT, ECONNREFUSED, EACCES, ENETUNREACH; EPROTOTYPE for a path of the other type; EAGAIN when
/// whoever listens at a path has too many connections to accept.
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

/// Sends a datagram, or as much of a stream as there is room for; returns how much that was.
///
/// # Errors
/// EAGAIN when there is no room; ECONNREFUSED, ENOTCONN, EPIPE, ECONNRESET and the like when nobody
/// takes it.
pub fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    retry(|| send_message(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL))
}

/// Whether the other side of a stream has closed it. What it may have sent stays unread.
#[must_use]
pub fn is_closed(fd: &OwnedFd) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    retry(|| recv(fd.as_raw_fd(), &mut [0], flags)) == Ok(0)
}

/// The user on the other side of a connection, as of when it was made; for one that was connected,
/// who listened.
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
    fn a_socket_is_abandoned_when_nobody_listens() {
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
