package query

import (
	"time"

	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// showFailovers lists the changes of master, the newest first.
func (e *Engine) showFailovers() *Result {
	t := newTable(column("time", sql.TypeTimestamp), column("from_dnode", sql.TypeSmallInt), column("to_dnode", sql.TypeSmallInt),
		varchar("cause", 16), column("vgId", sql.TypeInt), column("groups", sql.TypeInt), column("last_contact", sql.TypeTimestamp),
		column("detection_ms", sql.TypeBigInt), column("vote_ms", sql.TypeBigInt), column("first_write_ms", sql.TypeBigInt),
		varchar("mode", 12), varchar("info", 256))
	for _, f := range e.cluster.Failovers() {
		well, detection, write := f.Times()
		t.add(milliseconds(f.At), dnodeOrNull(f.From), dnodeOrNull(f.To), text(f.Cause.String()), integer(int64(f.Name.Group)),
			integer(int64(f.Groups)), milliseconds(well), integer(detection.Milliseconds()), integer(f.Vote.Milliseconds()),
			firstWrite(write), mode(f.Mode), text(f.Info()))
	}
	return t.result(sql.Millisecond)
}

// dnodeOrNull is a host, or NULL where nobody is known.
func dnodeOrNull(n id.Host) sql.Value {
	if n == 0 {
		return sql.Value{}
	}
	return integer(int64(n))
}

// firstWrite is NULL while nobody has written.
func firstWrite(d time.Duration) sql.Value {
	if d == 0 {
		return sql.Value{}
	}
	return integer(max(1, d.Milliseconds()))
}
