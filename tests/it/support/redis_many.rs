//! Redis servers that stand for one: a master with its replica under sentinels, and a cluster.

use super::redis::{TestRedis, free_port, wait_until};

/// A master, its replica, and three sentinels that agree after half a second that a server is down.
pub(crate) struct TestSentinels {
    /// The master at first, and its replica.
    pub(crate) servers: [TestRedis; 2],
    /// All see each other and both servers.
    pub(crate) sentinels: Vec<TestRedis>,
}

impl TestSentinels {
    /// Starts all with an empty data set.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "", &[])
    }

    /// The same with more arguments of the servers, and more lines and arguments of the sentinels.
    pub(crate) fn start_with(server: &[&str], lines: &str, sentinel: &[&str]) -> Self {
        let quick = ["--repl-diskless-sync-delay", "0"];
        let master = TestRedis::start_with(&[server, &quick].concat());
        let port = master.port().to_string();
        let of = ["--replicaof", "127.0.0.1", &port];
        let replica = TestRedis::start_with(&[server, &quick, &of].concat());
        wait_until("the replica follows", || {
            replica.cli(&["ROLE"]).contains("connected")
        });
        let sentinels: Vec<_> = (0..3)
            .map(|_| start_sentinel(&port, 2, lines, sentinel))
            .collect();
        for sentinel in &sentinels {
            wait_until("the sentinels know each other", || {
                let known = sentinel.cli(&["SENTINEL", "MASTER", "mymaster"]);
                known.contains("num-slaves\n1") && known.contains("num-other-sentinels\n2")
            });
        }
        Self {
            servers: [master, replica],
            sentinels,
        }
    }

    /// Their addresses as YAML.
    pub(crate) fn nodes(&self) -> String {
        let nodes: Vec<_> = self.sentinels.iter().map(address).collect();
        format!("[{}]", nodes.join(", "))
    }

    /// Waits until all sentinels name the one that was a replica at first.
    pub(crate) fn fail_over(&self) {
        let port = self.servers[1].port().to_string();
        for sentinel in &self.sentinels {
            wait_until("the replica is the master", || {
                let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"];
                sentinel.cli(&command).ends_with(&port)
            });
        }
    }
}

/// A sentinel that watches the server at `port` as `mymaster`; `quorum` of them must agree.
pub(crate) fn start_sentinel(port: &str, quorum: u8, lines: &str, args: &[&str]) -> TestRedis {
    let config = format!(
        "sentinel monitor mymaster 127.0.0.1 {port} {quorum}\nsentinel down-after-milliseconds mymaster 500\nsentinel \
         failover-timeout mymaster 3000\n{lines}"
    );
    TestRedis::start_as(Some(&config), &[&["--sentinel"], args].concat())
}

/// `host:port` of a server.
pub(crate) fn address(server: &TestRedis) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Three nodes of a cluster, each with a third of the slots, and a replica of the first one.
pub(crate) struct TestCluster {
    /// The replica is the last one.
    pub(crate) nodes: Vec<TestRedis>,
}

impl TestCluster {
    /// Starts one that is whole.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments of the nodes.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        let nodes: Vec<_> = (0..4).map(|_| start_node(args)).collect();
        let cluster = Self { nodes };
        for (node, (first, last)) in [(0, 5460), (5461, 10922), (10923, 16383)]
            .into_iter()
            .enumerate()
        {
            let range = [first.to_string(), last.to_string()];
            cluster.nodes[node].cli(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            let bus = cluster.nodes[0].cli(&["CONFIG", "GET", "cluster-port"]);
            let bus = bus.rsplit('\n').next().unwrap_or_default();
            let port = cluster.nodes[0].port().to_string();
            if index > 0 {
                node.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
            }
        }
        cluster.is_whole();
        let first = cluster.nodes[0].cli(&["CLUSTER", "MYID"]);
        let replica = &cluster.nodes[3];
        wait_until("a replica", || {
            replica.try_cli(&["CLUSTER", "REPLICATE", &first]).is_ok()
        });
        wait_until("the replica follows", || {
            replica.cli(&["ROLE"]).contains("connected")
        });
        // A replica that the others do not know cannot be elected.
        for node in &cluster.nodes {
            wait_until("all know the replica", || {
                node.cli(&["CLUSTER", "NODES"]).contains("slave")
            });
        }
        cluster
    }

    /// Waits until every living node sees a whole cluster.
    fn is_whole(&self) {
        for node in &self.nodes {
            wait_until("the cluster is whole", || {
                let info = node.cli(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:4")
            });
        }
    }

    /// URLs of all nodes as YAML.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<_> = self.nodes.iter().map(TestRedis::url).collect();
        format!("[\"{}\"]", urls.join("\", \""))
    }

    /// Which of the first three nodes has the slot of `key` at first.
    pub(crate) fn owner(&self, key: &str) -> usize {
        match self.slot(key) {
            0..=5460 => 0,
            5461..=10922 => 1,
            _ => 2,
        }
    }

    /// The slot of `key`.
    pub(crate) fn slot(&self, key: &str) -> u16 {
        let slot = self.nodes[1].cli(&["CLUSTER", "KEYSLOT", key]);
        slot.parse().expect("a slot")
    }

    /// A key of node `node`'s, beginning with `begin`.
    pub(crate) fn key_of(&self, node: usize, begin: &str) -> String {
        (0..)
            .map(|n| format!("{begin}{n}"))
            .find(|key| self.owner(key) == node)
            .expect("some key")
    }

    /// Begins to move the slot of `key`: from now on `to` takes keys of it, and `from` gives them away.
    pub(crate) fn begin_move(&self, key: &str, from: usize, to: usize) {
        let slot = self.slot(key).to_string();
        let [from_id, to_id] = [from, to].map(|node| self.nodes[node].cli(&["CLUSTER", "MYID"]));
        self.nodes[to].cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        self.nodes[from].cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    }

    /// Moves `key` itself.
    pub(crate) fn migrate(&self, key: &str, from: usize, to: usize) {
        let port = self.nodes[to].port().to_string();
        self.nodes[from].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Ends the move.
    pub(crate) fn end_move(&self, key: &str, from: usize, to: usize) {
        let slot = self.slot(key).to_string();
        let id = self.nodes[to].cli(&["CLUSTER", "MYID"]);
        for node in [to, from] {
            self.nodes[node].cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
    }

    /// Waits until the replica has taken the place of the first node, as all others see.
    pub(crate) fn fail_over(&self) {
        let id = self.nodes[3].cli(&["CLUSTER", "MYID"]);
        for node in &self.nodes[1..] {
            wait_until("the replica is a master", || {
                let nodes = node.cli(&["CLUSTER", "NODES"]);
                let is_master = |line: &str| {
                    line.starts_with(&id) && line.contains("master") && line.contains("0-5460")
                };
                nodes.lines().any(is_master)
            });
        }
    }
}

fn start_node(args: &[&str]) -> TestRedis {
    let bus = free_port().to_string();
    let cluster = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "1000",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ];
    TestRedis::start_with(&[&cluster, args].concat())
}
