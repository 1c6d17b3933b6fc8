package demo

import (
	"fmt"
	"net"
	"strings"
)

// kept says what to try on a cluster that stays, and how to end it.
func (r *rig) kept() string {
	a, b, w := r.hosts[0], r.hosts[1], r.arbitrator
	tool := func(command string, at *process, more string) string {
		host, port, _ := net.SplitHostPort(at.http)
		return fmt.Sprintf("%s %s -h %s -P %s%s", at.path, command, host, port, more)
	}
	return fmt.Sprintf(`
The cluster stays. Try

  %s

Logs and configuration are in %s. End it with

  kill %d %d %d; sleep 5; rm -r %s
`, strings.Join([]string{
		tool("status", a, ""),
		tool("sql", a, ` -s "SELECT COUNT(*), AVG(cpu_percent) FROM demo.machine"`),
		tool("sql", a, ` -s "SHOW FAILOVERS"`),
		w.path + " status --http " + w.http,
		fmt.Sprintf("kill -9 %d", a.pid()),
		tool("status", b, ""),
		a.path + " " + strings.Join(a.args, " "),
	}, "\n  "), r.dir, a.pid(), b.pid(), w.pid(), r.dir)
}
