package demo

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"

	"github.com/tarbitrator/tarbitrator/client"
)

// machine stores what this machine does, ten times a second.
type machine struct {
	client *client.Client
	acked  atomic.Int64 // rows
}

const (
	sampleEvery   = 100 * time.Millisecond
	createMachine = "CREATE STABLE demo.machine (ts TIMESTAMP, cpu_percent DOUBLE, memory_percent DOUBLE, disk_written BIGINT, net_sent BIGINT, net_received BIGINT) TAGS (host VARCHAR(64))"
)

// run samples until ctx ends. A sample that can't be taken or stored is left
// out: the count is of those that were.
func (m *machine) run(ctx context.Context, host string) {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case at := <-ticker.C:
			values, err := sample(ctx)
			if err != nil {
				continue
			}
			statement := fmt.Sprintf("INSERT INTO demo.this_machine USING demo.machine TAGS ('%s') VALUES (%d, %s)", host, at.UnixMilli(), values)
			n, err := m.client.Exec(context.WithoutCancel(ctx), statement)
			if err == nil {
				m.acked.Add(n)
			}
		}
	}
}

// sample is one row of values.
func sample(ctx context.Context) (string, error) {
	busy, err := cpu.PercentWithContext(ctx, 0, false)
	if err != nil || len(busy) == 0 {
		return "", fmt.Errorf("read the load of the CPU: %w", err)
	}
	memory, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("read the use of memory: %w", err)
	}
	disks, err := disk.IOCountersWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("read the counters of disks: %w", err)
	}
	var written uint64
	for _, d := range disks {
		written += d.WriteBytes
	}
	nets, err := net.IOCountersWithContext(ctx, false)
	if err != nil || len(nets) == 0 {
		return "", fmt.Errorf("read the counters of the network: %w", err)
	}
	return fmt.Sprintf("%.2f, %.2f, %d, %d, %d", busy[0], memory.UsedPercent, written, nets[0].BytesSent, nets[0].BytesRecv), nil
}
