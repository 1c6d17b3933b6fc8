package vnode

import (
	"errors"
	"reflect"
	"testing"

	"github.com/tarbitrator/tarbitrator/consensus"
	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// everyOp is one statement of each kind but insert.
var everyOp = []Op{
	CreateStable{Name: "st", Columns: tableColumns(allColumns...), Tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}, IfNotExists: true},
	CreateTable{Name: "t", Columns: tableColumns(sensorColumns...)},
	CreateChild{Name: "c", Using: Using{Stable: "st", Tags: []sql.Value{{Type: sql.TypeInt, Int: -3}}}, IfNotExists: true},
	AddColumn{Name: "st", Column: sql.Column{Name: "z", Type: sql.TypeDecimal, Length: 10, Scale: 2}},
	DropColumn{Name: "st", Column: "b"},
	SetTags{Table: "c", Names: []string{"x"}, Tags: []sql.Value{{Type: sql.TypeInt, Int: 1 << 40}}},
	DropTable{Name: "t", IfExists: true},
	DropStable{Name: "st"},
	Note{Key: "pipe", Value: []byte{1, 2, 3}},
}

// testEntry is an entry with every kind of statement.
func testEntry() []byte {
	data := appendEntryHead(nil, entryHead{first: 1 << 60, origin: testCluster, remember: 5, count: len(everyOp) + 1})
	for i, op := range everyOp {
		data = appendStatement(data, op.kind(), StatementID{Boot: uint64(i / 2), Seq: uint64(i)}, appendOp(nil, op))
	}
	body := []byte{3}
	for _, in := range []insertTable{
		{id: 9 << positionBits, blocks: 1},
		{name: "c", stable: "st", under: 4, tags: []sql.Value{{}, {Type: sql.TypeVarchar, Text: "x"}}, blocks: 1},
		{id: 8, foreign: true, own: version{1 << 59, 3}, blocks: 1},
	} {
		body = appendBytes(appendInsertTable(body, &in), encode(sensorRows(1, 1_700_000_000_000, 0), nil))
	}
	return appendStatement(data, opInsert, StatementID{}, body)
}

func TestEntryRoundTrip(t *testing.T) {
	d := decoder{src: testEntry()}
	if h := d.entryHead(); h.first != 1<<60 || h.origin != testCluster || h.remember != 5 || h.count != len(everyOp)+1 {
		t.Errorf("got head %+v", h)
	}
	for i, want := range everyOp {
		kind, who, body := d.statement()
		b := decoder{src: body}
		if got := b.op(kind); b.end() != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, b.err, want)
		}
		if want := (StatementID{uint64(i / 2), uint64(i)}); who != want {
			t.Errorf("got id %v, want %v", who, want)
		}
	}
	compareGolden(t, "entry", testEntry())
}

// TestStoreGolden keeps the formats of the store's records.
func TestStoreGolden(t *testing.T) {
	schema := newSchema(tableColumns(allColumns...), 1<<positionBits).without("b", 2<<positionBits)
	o := object{created: 1 << 60, name: "st", schema: schema, tags: []sql.Column{{Name: "x", Type: sql.TypeInt}}}
	s := newStable(1<<positionBits, &o)
	compareGolden(t, "stable", appendStable(nil, s))
	o = object{created: 1 << 60, name: "c", values: tagValues{[]sql.Value{{Type: sql.TypeInt, Int: 5}}, 3 << positionBits}}
	compareGolden(t, "child", appendTable(nil, newTable(3<<positionBits, &o, s)))
	o = object{created: 1 << 60, name: "t", schema: schema}
	compareGolden(t, "table", appendTable(nil, newTable(4<<positionBits, &o, nil)))
	compareGolden(t, "grave", (&grave{id: 5, name: "c", under: 3, dropped: 9 << positionBits}).append(nil))
	compareGolden(t, "position", position{7, 1 << 60, 3, 1 << 59}.append(nil))
	var ids []byte
	ids = appendRemembered(ids, StatementID{}, StatementID{5, 100}, remembered{pos: 7 << positionBits, rows: 1})
	ids = appendRemembered(ids, StatementID{5, 100}, StatementID{5, 99}, remembered{pos: 7<<positionBits | 2, fault: faultNoTable, extra: true})
	compareGolden(t, "ids", ids)
}

// TestRejectedEntry: an entry that this version does not write stops the group
// and leaves the store as it was.
func TestRejectedEntry(t *testing.T) {
	v := openTest(t, testConfig(t.TempDir()), nil)
	before := mustDigest(t, v)
	for _, cut := range []int{0, 1, 17, 40, 200, len(testEntry()) - 1} {
		if _, err := v.Apply([]consensus.Entry{{Index: 1, Term: 1, Data: testEntry()[:cut]}}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%d bytes: got %v, want %v", cut, err, ErrCorrupt)
		}
	}
	if got := mustDigest(t, v); got != before {
		t.Errorf("got %+v, want %+v", got, before)
	}
}

// TestNewerBytesAreNamed: what a newer version wrote is not called damaged.
func TestNewerBytesAreNamed(t *testing.T) {
	entry := testEntry()
	entry[0]++
	d := decoder{src: entry}
	d.entryHead()
	unknown := decoder{}
	unknown.op(99)
	_, block := parseHead([]byte{blockVersion + 1, 1})
	_, table := parseObject([]byte{objectVersion + 1, objectPlain})
	_, dropped := parseGrave(1, []byte{graveVersion + 1})
	for what, err := range map[string]error{
		"entry": d.err, "statement": unknown.err, "block": block, "table": table, "dropped table": dropped,
	} {
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrNewer", what, err)
		}
	}
}

// FuzzEntry: no bytes make the decoder of entries panic, and an op that it
// accepts is written again as the same bytes.
func FuzzEntry(f *testing.F) {
	f.Add(testEntry())
	f.Fuzz(func(t *testing.T, src []byte) {
		d := decoder{src: src}
		h := d.entryHead()
		for i := 0; i < h.count && d.err == nil; i++ {
			kind, _, body := d.statement()
			b := decoder{src: body}
			if kind != opInsert {
				op := b.op(kind)
				if b.end() != nil {
					continue
				}
				again := decoder{src: appendOp(nil, op)}
				if got := again.op(kind); again.end() != nil {
					t.Fatalf("%+v was read, %+v is written: %v", op, got, again.err)
				}
				continue
			}
			for n := b.count(3); n > 0 && b.err == nil; n-- {
				for in := b.insertTable(); in.blocks > 0 && b.err == nil; in.blocks-- {
					_, _ = parseHead(b.bytes())
				}
			}
		}
	})
}

// FuzzStore: no bytes in the store make the decoders of its records panic.
func FuzzStore(f *testing.F) {
	f.Add([]byte("d0000000000000000000000000"), []byte{1})
	f.Fuzz(func(_ *testing.T, key, value []byte) {
		_, _ = parseBlockKey(key, testCluster)
		_, _ = parseObject(value)
		_, _ = parsePosition(value)
		_, _ = parseGrave(1, value)
		_ = newMemory().load(1, value)
	})
}
