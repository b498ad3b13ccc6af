use std::{fs, net::IpAddr};

/// The name servers that instances can ask: those of this machine, other than ones on its loopback address.
///
/// Where the machine asks a resolver of its own (`systemd-resolved`), these are the servers behind it.
pub fn nameservers() -> Vec<IpAddr> {
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let lists = files.map(|path| parse(&fs::read_to_string(path).unwrap_or_default()));
    lists
        .into_iter()
        .find(|list| !list.is_empty())
        .unwrap_or_default()
}

fn parse(text: &str) -> Vec<IpAddr> {
    // The C library looks at three.
    const SERVERS_MAX: usize = 3;
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        words.next()?.parse().ok()
    });
    addresses
        .filter(|address: &IpAddr| address.is_ipv4() && !address.is_loopback())
        .take(SERVERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_an_instance_can_reach_count() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\noptions edns0\nnameserver 9.9.9.9\n";
        let found: Vec<_> = parse(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "9.9.9.9"]);
    }
}
