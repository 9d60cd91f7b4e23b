//! Sockets of this machine that have a path (`unix(7)`).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt,
    listen as start_listening, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::Errno;

/// The longest path of a socket: `sun_path` has 108 bytes, one of them for the NUL.
pub const PATH_LEN_MAX: usize = 107;

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
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = UnixAddr::new(path).and_then(|address| {
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &address)
    });
    connected == Err(Errno::ECONNREFUSED)
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
        let fits = PATH_LEN_MAX - scratch.path().as_os_str().len() - 1;
        assert!(listen(&scratch.path().join("x".repeat(fits))).is_ok());
        assert_eq!(listen(&scratch.path().join("x".repeat(fits + 1))).unwrap_err(), Errno::ENAMETOOLONG);
    }
}
