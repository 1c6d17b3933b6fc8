package vnode

import (
	"context"
	"errors"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/hlc"
	"github.com/tarbitrator/tarbitrator/internal/id"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// TestReadBesideAlter: while a request looks for its tables a column is added,
// and a row comes that has it. The request shows what was there when it began.
func TestReadBesideAlter(t *testing.T) {
	for name, read := range map[string]func(v *Vnode, pick func(*Table) bool) (int64, error){
		"scan": func(v *Vnode, pick func(*Table) bool) (rows int64, err error) {
			err = v.Scan(t.Context(), ScanRequest{Table: "st", Tables: pick}, func(_ *Table, r *sql.Rows) error {
				rows += int64(r.Len())
				return nil
			})
			return rows, err
		},
		"aggregate": func(v *Vnode, pick func(*Table) bool) (int64, error) {
			groups, err := v.Aggregate(t.Context(), AggregateRequest{Table: "st", Tables: pick, Columns: []string{"v"}})
			if err != nil {
				return 0, err
			}
			return groups[0].Windows[0].Rows, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, _ := leader(t, testConfig(t.TempDir()))
			write(t, v, CreateStable{Name: "st", Columns: tableColumns(sensorColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}})
			row := func(at float64) Insert {
				using := &Using{Stable: "st", Tags: []sql.Value{{}}}
				return Insert{Tables: []TableRows{{Table: "a", Using: using, Rows: numbers(at, 1, 1)}}}
			}
			write(t, v, row(0))
			rows, err := read(v, func(*Table) bool {
				write(t, v, AddColumn{Name: "st", Column: sql.Column{Name: "more", Type: sql.TypeInt}})
				write(t, v, row(1))
				return true
			})
			if err != nil || rows != 1 {
				t.Errorf("got %d rows, %v; want the one that was there", rows, err)
			}
		})
	}
}

// TestEntriesAreWhole applies far more small statements at once than go into one
// transaction of the store: each entry is in one of them, so that no view shows
// a part of it.
func TestEntriesAreWhole(t *testing.T) {
	const each, last = 700, 60
	v := openTest(t, testConfig(t.TempDir()), nil)
	op := CreateTable{Name: "x", Columns: tableColumns(sensorColumns...)}
	table := objectID(1) << positionBits
	entries := make([]consensus.Entry, 0, last)
	for index := id.Index(1); index <= last; index++ {
		h := entryHead{first: hlc.At(testNow) + hlc.Stamp(index)<<stampShift, origin: testCluster, count: each}
		if index == 1 {
			h.count = 1
		}
		data := appendEntryHead(nil, h)
		for i := range h.count {
			if index == 1 {
				data = appendStatement(data, op.kind(), StatementID{}, appendOp(nil, op))
				continue
			}
			rows := numbers(float64(index)*each+float64(i), 1, 1)
			body := appendInsertTable([]byte{1}, &insertTable{id: table, blocks: 1})
			data = appendStatement(data, opInsert, StatementID{}, appendBytes(body, new(encoder).appendBlock(nil, rows, 0, 1, 1, nil)))
		}
		entries = append(entries, consensus.Entry{Index: index, Term: 1, Data: data})
	}
	if _, err := v.Apply(entries); err != nil {
		t.Fatal(err)
	}
	txn := v.current.Load().db.NewTransaction(false)
	defer txn.Discard()
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{keyBlock}})
	defer it.Close()
	blocks, commits := 0, map[id.Index]uint64{}
	for it.Rewind(); it.Valid(); it.Next() {
		key, err := parseBlockKey(it.Item().Key(), testCluster)
		if err != nil {
			t.Fatal(err)
		}
		index := id.Index((key.version.stamp - hlc.At(testNow)) >> stampShift)
		commit := it.Item().Version()
		if was, ok := commits[index]; ok && was != commit {
			t.Fatalf("entry %d was committed in parts", index)
		}
		commits[index] = commit
		blocks++
	}
	if blocks != each*(last-1) {
		t.Errorf("got %d blocks, want %d", blocks, each*(last-1))
	}
}

// TestAMergeThatFailsIsMadeUpFor: what a merge did not get to is merged by the
// next one, though only newer blocks ask for it.
func TestAMergeThatFailsIsMadeUpFor(t *testing.T) {
	v, _ := leader(t, testConfig(t.TempDir()))
	write(t, v, CreateTable{Name: "x", Columns: tableColumns(sensorColumns...)})
	y, of := v.current.Load().tidy, v.Table("x").id
	row := 0
	fill := func() {
		for range mergeAfter {
			row++
			write(t, v, Insert{Tables: []TableRows{{Table: "x", Rows: numbers(float64(row), 1, 1)}}})
		}
	}
	fill()
	ended, end := context.WithCancel(t.Context())
	end()
	if err := y.merge(ended, of); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that it was ended", err)
	}
	fill()
	if err := y.merge(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	if n := countKeys(t, v, keyBlock); n > mergeAfter/2 {
		t.Errorf("%d blocks are left of %d", n, row)
	}
}

// passedBy is a log whose entries were passed by: nobody here has applied them.
type passedBy struct{ *testLog }

func (passedBy) Propose(context.Context, id.Group, []byte) (any, error) { return nil, nil }

// TestAnEntryWithoutResult: a statement that nobody here knows the result of is to
// be repeated; it does not end the process.
func TestAnEntryWithoutResult(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), passedBy{})
	lead(t, v)
	op := CreateTable{Name: "x", Columns: tableColumns(sensorColumns...)}
	if _, err := v.Write(t.Context(), Statement{Op: op}); !errors.Is(err, consensus.ErrUnknownOutcome) {
		t.Errorf("got %v, want ErrUnknownOutcome", err)
	}
}
