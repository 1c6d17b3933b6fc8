package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// network is the cables of one rig: every machine in a namespace, all plugged
// into a bridge in one more, to which the client's namespace has a cable, too.
// Nothing of it reaches the network of the machine that the rig runs on.
type network struct {
	prefix string // of all its namespaces
	number int    // the third number of its addresses
	cut    map[string]bool
	links  map[link]bool
	ports  map[int]bool // that nothing is let through to
}

// link is one direction of what two machines can say to each other.
type link struct{ from, to string }

// hostNumbers are the last numbers of addresses.
var hostNumbers = map[string]int{A: 1, B: 2, Arbitrator: 3, clientName: 4}

func namespace(prefix, name string) string { return prefix + "-" + name }

func (n *network) namespace(name string) string { return namespace(n.prefix, name) }

func (n *network) address(name string) string {
	return fmt.Sprintf("10.77.%d.%d", n.number, hostNumbers[name])
}

func newNetwork(parent string, number int) (*network, error) {
	n := &network{
		prefix: fmt.Sprintf("%sn%d", parent, number), number: number,
		cut: map[string]bool{}, links: map[link]bool{}, ports: map[int]bool{},
	}
	bridge := n.namespace(bridgeName)
	lines := []string{
		"ip netns add " + bridge,
		"ip -n " + bridge + " link add br0 type bridge",
		"ip -n " + bridge + " link set br0 up",
	}
	for _, name := range []string{A, B, Arbitrator, clientName} {
		ns, inner := n.namespace(name), "eth0"
		if name == clientName { // one namespace, a cable to each rig
			ns, inner = namespace(parent, clientName), fmt.Sprintf("rig%d", number)
		} else {
			lines = append(lines, "ip netns add "+ns, "ip -n "+ns+" link set lo up")
		}
		lines = append(lines,
			fmt.Sprintf("ip -n %s link add v%s type veth peer name %s netns %s", bridge, name, inner, ns),
			fmt.Sprintf("ip -n %s link set v%s master br0 up", bridge, name),
			fmt.Sprintf("ip -n %s addr add %s/24 dev %s", ns, n.address(name), inner),
			fmt.Sprintf("ip -n %s link set %s up", ns, inner))
	}
	if err := runAll(lines...); err != nil {
		n.remove()
		return nil, fmt.Errorf("make a network: %w", err)
	}
	return n, nil
}

func (n *network) remove() { removeNamespaces(n.prefix + "-") }

// removeNamespaces removes those whose names begin so.
func removeNamespaces(prefix string) {
	names, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		return
	}
	for _, path := range names {
		_ = run("ip netns del " + filepath.Base(path)) // what can't be removed now is gone with the last process in it
	}
}

// in is the command line that runs words in the namespace of a machine. The
// process keeps its id: nsenter becomes the program.
func (n *network) in(name string, words ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + n.namespace(name)}, words...)
}

// Cut pulls a machine's cable; Plug puts it back.
func (r *Rig) Cut(name string) error {
	r.net.cut[name] = true
	return run(fmt.Sprintf("ip -n %s link set v%s down", r.net.namespace(bridgeName), name))
}

// Plug puts a machine's cable back.
func (r *Rig) Plug(name string) error {
	delete(r.net.cut, name)
	return run(fmt.Sprintf("ip -n %s link set v%s up", r.net.namespace(bridgeName), name))
}

// CutLink drops everything that goes from one machine to another, in this
// direction only. Connections stay open: what was sent before arrives, nothing
// says that the rest does not.
func (r *Rig) CutLink(from, to string) error {
	r.net.links[link{from, to}] = true
	return r.net.filter()
}

// MendLink lets one direction of a link work again.
func (r *Rig) MendLink(from, to string) error {
	delete(r.net.links, link{from, to})
	return r.net.filter()
}

// BlockPort drops everything that one machine sends to a port of another, over
// TCP and UDP, also on connections that are open, until Heal: a firewall that
// nobody has told of that port. Nothing says that it is dropped.
func (r *Rig) BlockPort(port int) error {
	r.net.ports[port] = true
	return r.net.filter()
}

// filter puts all cut links and blocked ports into force at once.
func (n *network) filter() error {
	var rules strings.Builder
	// The table is declared first, so that there is one to delete.
	rules.WriteString("table bridge cut\ndelete table bridge cut\ntable bridge cut { chain c { type filter hook forward priority -300; policy accept;\n")
	for l := range n.links {
		fmt.Fprintf(&rules, "iifname \"v%s\" oifname \"v%s\" drop\n", l.from, l.to)
	}
	for port := range n.ports {
		fmt.Fprintf(&rules, "meta l4proto { tcp, udp } th dport %d drop\n", port)
	}
	rules.WriteString("}\n}\n")
	words := n.in(bridgeName, "nft", "-f", "-")
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(rules.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cut links (is nft installed?): %w: %s", err, out)
	}
	return nil
}

// Heal puts every cable back, mends every link and opens every port.
func (r *Rig) Heal() error {
	var errs []error
	for _, name := range sorted(r.net.cut) {
		errs = append(errs, r.Plug(name))
	}
	if len(r.net.links)+len(r.net.ports) > 0 {
		clear(r.net.links)
		clear(r.net.ports)
		errs = append(errs, r.net.filter())
	}
	return errors.Join(errs...)
}

func sorted(set map[string]bool) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// WireBytes counts the bytes that have crossed a machine's cable, both ways,
// with all headers.
func (r *Rig) WireBytes(name string) (uint64, error) {
	out, err := exec.Command("ip", "-n", r.net.namespace(bridgeName), "-s", "-j", "link", "show", "v"+name).Output()
	if err != nil {
		return 0, fmt.Errorf("read counters of %s: %w", name, err)
	}
	var links []struct {
		Stats struct {
			Rx, Tx struct{ Bytes uint64 }
		} `json:"stats64"`
	}
	if err := json.Unmarshal(out, &links); err != nil || len(links) != 1 {
		return 0, fmt.Errorf("read counters of %s: %w: %s", name, err, out)
	}
	return links[0].Stats.Rx.Bytes + links[0].Stats.Tx.Bytes, nil
}

// dialIn dials from the namespace of a machine. A socket belongs to the
// namespace that its thread was in when it was made.
func (n *network) dialIn(ctx context.Context, name, address string) (net.Conn, error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer own.Close()
	there, err := os.Open("/run/netns/" + n.namespace(name))
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter the namespace of %s: %w", name, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked and ends with its goroutine: nobody else may
		// dial from there.
		return nil, errors.Join(err, fmt.Errorf("leave the namespace of %s: %w", name, back))
	}
	runtime.UnlockOSThread()
	return conn, err
}
