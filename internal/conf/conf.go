// Package conf reads the configuration of a data host: lines of a key and a
// value.
//
// It opens no file and asks the machine nothing; whoever has read the file hands
// in its text, and the name of the machine to Resolve.
package conf

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// Config is what the file says, with defaults for what it does not say. One
// table, in keys.go, ties its fields to keys, defaults and ranges.
type Config struct {
	FirstEp    string // host:port to contact at the very first start; default: the own end point
	SecondEp   string // host:port to try when FirstEp does not answer; default none
	FQDN       string // own name, as others reach it; default: the name of the machine
	Bind       string // address to listen on; default all
	ServerPort uint16 // for other hosts; default 6030
	GossipPort uint16 // default ServerPort + 1
	GossipKey  string // 32 bytes in base64 or hexadecimal; default: derived from the cluster's secret
	HTTPPort   uint16 // for clients; default 6041
	Arbitrator string // host:port of tarbitrator; default none

	DataDir string // default /var/lib/taos
	LogDir  string // default /var/log/taos

	NumOfMnodes      int           // replicas of the metadata, up to; default 3
	OfflineThreshold time.Duration // a host that is offline longer is dropped; default 10 days
	Balance          bool          // move replicas automatically; default true
	StatusInterval   time.Duration // how often a host reports; default 1 s

	WaitReplicaTimeout time.Duration // silence of a replica until the arbitrator is fed; default 250 ms
	ElectionTimeout    time.Duration // silence of a leader until an election; ten ticks; default 500 ms
	WALKeepForReplica  uint64        // bytes of a group's log kept for a replica that is away; default 1 GiB
	MaxRetryWaitTime   time.Duration // how long a statement waits for a master; default 20 s

	RestfulRowLimit     int64  // rows of one answer, -1 for all; default -1
	HTTPCodeServerError bool   // SQL errors answer with HTTP codes other than 200; default false
	Timezone            string // IANA name; default that of the machine
	DebugFlag           int    // 131 normal, 135 debug, 143 trace; default 131
}

// Ports that an end point without one means.
const (
	DefaultPort           = 6030
	DefaultArbitratorPort = 6042
)

// Default is the configuration of an empty file.
func Default() Config {
	var c Config
	for i := range keys {
		k := &keys[i]
		if err := k.set(&c, k.preset); err != nil {
			panic(fmt.Sprintf("conf: default of %s: %v", k.name, err))
		}
	}
	return c
}

// replicaMargin is what the round trip to the arbitrator and its sync may take
// when its feed opens: up to waitReplicaTimeout 450 ms of 500 ms no leader of an
// idle group stepped down in simulation, beyond that some did.
const replicaMargin = 50 * time.Millisecond

// Check reports everything that can't be so: values out of range, and values
// that do not fit together.
func (c Config) Check() error {
	var all []error
	for i := range keys {
		k := &keys[i]
		if err := k.set(new(Config), k.get(&c)); err != nil {
			all = append(all, fmt.Errorf("%s: %w", k.name, err))
		}
	}
	if c.WaitReplicaTimeout+replicaMargin >= c.ElectionTimeout {
		all = append(all, fmt.Errorf("waitReplicaTimeout %s and electionTimeout %s: a leader would step down before the arbitrator could help it; keep waitReplicaTimeout below %s",
			formatDuration(c.WaitReplicaTimeout), formatDuration(c.ElectionTimeout), formatDuration(c.ElectionTimeout-replicaMargin)))
	}
	ports := map[uint16]string{}
	for _, p := range []struct {
		port uint16
		key  string
	}{{c.ServerPort, "serverPort"}, {c.gossipPort(), "gossipPort"}, {c.HTTPPort, "httpPort"}} {
		if other, taken := ports[p.port]; taken {
			all = append(all, fmt.Errorf("%s and %s are both %d", other, p.key, p.port))
		}
		ports[p.port] = p.key
	}
	if c.ServerPort == 65535 && c.GossipPort == 0 {
		all = append(all, errors.New("serverPort 65535 leaves no port for gossip: set gossipPort"))
	}
	if c.SecondEp != "" && c.SecondEp == c.FirstEp {
		all = append(all, fmt.Errorf("firstEp and secondEp are both %s", c.FirstEp))
	}
	return errors.Join(all...)
}

func (c Config) gossipPort() uint16 {
	if c.GossipPort != 0 {
		return c.GossipPort
	}
	return c.ServerPort + 1
}

// Resolve fills in what depends on the machine and on other keys, given the
// machine's name. On a host that names a first end point on the loopback
// interface and no name of its own, the own name is that of the first end point:
// whole clusters run on one machine that way.
func (c Config) Resolve(hostname string) Config {
	c.GossipPort = c.gossipPort()
	if c.FQDN == "" {
		c.FQDN = strings.ToLower(hostname)
		if host, _, err := net.SplitHostPort(c.FirstEp); err == nil && (host == "localhost" || host == "127.0.0.1" || host == "::1") {
			c.FQDN = host
		}
	}
	if c.FirstEp == "" {
		c.FirstEp = c.EndPoint()
	}
	return c
}

// EndPoint is the host's own address, as it advertises it.
func (c Config) EndPoint() string { return net.JoinHostPort(c.FQDN, strconv.Itoa(int(c.ServerPort))) }

// Listen is the address to listen on for a port.
func (c Config) Listen(port uint16) string {
	return net.JoinHostPort(c.Bind, strconv.Itoa(int(port)))
}

// GossipSecret is the key that GossipKey spells; false: none is configured.
func (c Config) GossipSecret() (key [keyBytes]byte, set bool) {
	key, err := parseKey(c.GossipKey)
	return key, err == nil
}

// Tick is a tenth of the election timeout.
func (c Config) Tick() time.Duration { return c.ElectionTimeout / 10 }

// LogLevel is what DebugFlag means here.
func (c Config) LogLevel() slog.Level {
	const debugOrTrace = 4 | 8
	if c.DebugFlag&debugOrTrace != 0 {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Variable is one line of SHOW VARIABLES.
type Variable struct {
	Name  string
	Value string
	Scope string // server, or both: clients read the key as well
	Info  string // what it is about, in a few words
}

// Variables is the configuration as SHOW VARIABLES lists it, in the order of the
// manual. Durations are bare numbers in the unit of their key, as TDengine shows
// them.
func (c Config) Variables() []Variable {
	return c.variables(func(*key) bool { return true })
}

// Shared is what must be equal on all hosts of a cluster: a host whose values
// differ is refused.
func (c Config) Shared() []Variable {
	return c.variables(func(k *key) bool { return k.shared })
}

func (c Config) variables(wanted func(*key) bool) []Variable {
	var list []Variable
	for i := range keys {
		if k := &keys[i]; wanted(k) {
			v := Variable{Name: k.name, Value: k.get(&c), Scope: k.scope, Info: k.doc}
			if k.kind == kindKey && v.Value != "" {
				v.Value = "(set)"
			}
			if d, ok := k.field(&c).(*time.Duration); ok && *d%k.unit == 0 {
				v.Value = strconv.FormatInt(int64(*d/k.unit), 10)
				v.Info += ", in " + unitName(k.unit)
			}
			list = append(list, v)
		}
	}
	return list
}

// String is the configuration as a file that Parse reads back: what tnode start
// -C prints. Keys without a value stand there as comments, and so do secrets.
func (c Config) String() string {
	var b strings.Builder
	for i := range keys {
		k := &keys[i]
		value := k.get(&c)
		switch {
		case value == "":
			fmt.Fprintf(&b, "# %s\n", k.name)
			continue
		case k.kind == kindKey:
			fmt.Fprintf(&b, "# %-18s is set and not shown\n", k.name)
			continue
		}
		fmt.Fprintf(&b, "%-20s %s\n", k.name, quote(value))
	}
	return b.String()
}
