//! Two hosts on one machine: network namespaces with a cable between them that can be cut.

use std::process::Command;

use crate::world::run;

/// One of the two hosts.
#[derive(Debug)]
pub struct Side {
    /// Its network namespace.
    pub netns: String,
    /// Its address, of those that documentation may use (RFC 5737): no route leads there.
    pub address: &'static str,
    device: String,
    /// Of the network card.
    hardware: &'static str,
}

/// Both of them; taken down with their owner.
#[derive(Debug)]
pub struct Network {
    /// Where the server runs.
    pub server: Side,
    /// Where the client runs.
    pub client: Side,
}

impl Network {
    /// Makes both namespaces and the cable.
    ///
    /// # Errors
    /// When the kernel or `ip` does not allow it.
    pub fn new() -> anyhow::Result<Self> {
        let id = std::process::id();
        let side = |letter, address, hardware| Side {
            netns: format!("lb{letter}-{id}"),
            address,
            device: format!("lb{letter}{id}"),
            hardware,
        };
        let network = Self {
            server: side('s', "192.0.2.1", "02:00:00:00:00:01"),
            client: side('c', "192.0.2.2", "02:00:00:00:00:02"),
        };
        let (server, client) = (&network.server, &network.client);
        for side in [server, client] {
            ip(&["netns", "add", &side.netns])?;
        }
        ip(&[
            "link",
            "add",
            &server.device,
            "netns",
            &server.netns,
            "type",
            "veth",
            "peer",
            "name",
            &client.device,
            "netns",
            &client.netns,
        ])?;
        for (side, other) in [(server, client), (client, server)] {
            let address = format!("{}/30", side.address);
            side.ip(&["address", "add", &address, "dev", &side.device])?;
            side.ip(&["link", "set", "lo", "up"])?;
            side.ip(&["link", "set", &side.device, "address", side.hardware])?;
            side.ip(&["link", "set", &side.device, "up"])?;
            // Known for good: after the cut nobody is to notice that the other is not there.
            side.ip(&[
                "neighbour",
                "replace",
                other.address,
                "lladdr",
                other.hardware,
                "nud",
                "permanent",
                "dev",
                &side.device,
            ])?;
        }
        Ok(network)
    }

    /// From now on nothing that the server sends finds its client, and nothing comes back: not even
    /// the news of it, as there would be of a cable that is pulled at this end.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&self) -> anyhow::Result<()> {
        let client = &self.client;
        client.ip(&["address", "flush", "dev", &client.device])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The cable goes with the namespaces; there is nobody to tell if one was never made.
        for side in [&self.server, &self.client] {
            drop(ip(&["netns", "delete", &side.netns]));
        }
    }
}

impl Side {
    fn ip(&self, arguments: &[&str]) -> anyhow::Result<()> {
        ip(&[&["-n", &self.netns], arguments].concat())
    }

    /// Sets a kernel parameter of this host.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set(&self, parameter: &str, value: &str) -> anyhow::Result<()> {
        let mut shell = inside(&self.netns, "sh");
        shell.args(["-c", &format!("echo {value} >/proc/sys/{parameter}")]);
        run(&mut shell)
    }
}

/// A command that will run in a network namespace.
#[must_use]
pub fn inside(netns: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, program]);
    command
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("ip").args(arguments))
}
