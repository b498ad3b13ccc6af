use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

/// A TCP port that something inside listens on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Only processes inside reach it: it is bound to the loopback address.
    pub loopback: bool,
}

/// The TCP ports listened on in this thread's network namespace, in order.
pub(crate) fn listeners() -> io::Result<Vec<Listener>> {
    let mut found = BTreeMap::new();
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => text.lines().skip(1).filter_map(parse).for_each(|listener| {
                // Of two listeners on one port the one that can be reached counts.
                let loopback = found.entry(listener.port).or_insert(true);
                *loopback &= listener.loopback;
            }),
            // A kernel without IPv6 has no second table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found
        .into_iter()
        .map(|(port, loopback)| Listener { port, loopback })
        .collect())
}

/// Takes a line of the kernel's table, if it is of a listening socket: `sl local_address rem_address st …`.
fn parse(line: &str) -> Option<Listener> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    Some(Listener {
        port: u16::from_str_radix(port, 16).ok()?,
        loopback: is_loopback(address),
    })
}

/// Addresses are printed as 32-bit numbers of the machine's byte order.
fn is_loopback(address: &str) -> bool {
    let last = address
        .get(address.len().saturating_sub(8)..)
        .and_then(|word| u32::from_str_radix(word, 16).ok());
    let last = last.unwrap_or(0).to_ne_bytes();
    match address.len() {
        8 => last[0] == 127,
        // ::1, or a loopback address of IPv4 mapped into IPv6.
        32 if address.starts_with(&"0".repeat(24)) => last == [0, 0, 0, 1],
        32 => address[16..24].eq_ignore_ascii_case(MAPPED) && last[0] == 127,
        _ => false,
    }
}

/// `::ffff:` as such a number.
const MAPPED: &str = if cfg!(target_endian = "little") {
    "FFFF0000"
} else {
    "0000FFFF"
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_told_by_port_and_reach() {
        let table = [
            (
                "   0: 0100007F:1F90 00000000:0000 0A 0:0 0:0",
                Some((8080, true)),
            ),
            (
                "   1: 00000000:26AA 00000000:0000 0A 0:0 0:0",
                Some((9898, false)),
            ),
            ("   2: 0100007F:1F90 0100007F:9000 01 0:0 0:0", None),
            (
                "   3: 00000000000000000000000001000000:0050 0:0 0A 0:0",
                Some((80, true)),
            ),
            (
                "   4: 00000000000000000000000000000000:01BB 0:0 0A 0:0",
                Some((443, false)),
            ),
            (
                "   5: 0000000000000000FFFF00000100007F:01BC 0:0 0A 0:0",
                Some((444, true)),
            ),
        ];
        for (line, expected) in table {
            let found = parse(line).map(|listener| (listener.port, listener.loopback));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(listeners().unwrap().contains(&Listener {
            port,
            loopback: true
        }));
    }
}
