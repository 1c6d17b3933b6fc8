package mnode

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/tarbitrator/tarbitrator/internal/checkfile"
)

// fileMagic starts the file of the replicated state; docs/format/mnode.md.
var fileMagic = checkfile.Magic{'T', 'A', 'R', 'M', 'N', 'O', 'D', '1'}

const fileName = "state"

// EncodeView returns v as files and the wire carry it.
func EncodeView(v *View) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode view %d: %w", v.Index, err)
	}
	return b, nil
}

// DecodeView reads what EncodeView wrote and checks that it is a state that
// apply can have made: everything else relies on that.
func DecodeView(b []byte) (*View, error) {
	v := new(View)
	if err := decodeStrict(b, v); err != nil {
		return nil, fmt.Errorf("decode view: %w: %w", err, ErrNewer) // checksums have found damage before
	}
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("decode view %d: %w", v.Index, err)
	}
	return v, nil
}

// check reports the first broken invariant of v: order, and counters above
// everything that was handed out.
func (v *View) check() error {
	if !rising(v.Dnodes, func(a, b Dnode) int { return cmp.Compare(a.ID, b.ID) }) ||
		!rising(v.Users, func(a, b User) int { return cmp.Compare(a.Name, b.Name) }) ||
		!rising(v.Databases, func(a, b Database) int { return cmp.Compare(a.Name, b.Name) }) ||
		!rising(v.Groups, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) }) {
		return errors.New("not in order")
	}
	for _, d := range v.Dnodes {
		if d.ID == 0 || d.ID >= v.NextDnode {
			return fmt.Errorf("dnode %d, next is %d", d.ID, v.NextDnode)
		}
	}
	for _, g := range v.Groups {
		if g.ID == 0 || g.ID >= v.NextGroup || g.State > Dropping {
			return fmt.Errorf("group %d in state %d, next is %d", g.ID, g.State, v.NextGroup)
		}
		for _, m := range g.Members {
			if m.Replica == 0 || m.Replica >= g.NextReplica || m.Witness != (m.Dnode == 0) {
				return fmt.Errorf("group %d: replica %d of dnode %d, next is %d", g.ID, m.Replica, m.Dnode, g.NextReplica)
			}
		}
	}
	for _, db := range v.Databases {
		if len(db.Groups) == 0 {
			return fmt.Errorf("database %s has no vgroup", db.Name)
		}
		for _, n := range db.Groups {
			if g, ok := v.Group(n); !ok || g.Database != db.Name {
				return fmt.Errorf("database %s: group %d is not its own", db.Name, n)
			}
		}
	}
	return nil
}

func rising[T any](s []T, compare func(a, b T) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(s[i-1], s[i]) >= 0 {
			return false
		}
	}
	return true
}

// load reads the last checkpoint of dir; an empty View if there is none.
func load(dir string) (*View, error) {
	b, err := checkfile.Read(filepath.Join(dir, fileName), fileMagic)
	if errors.Is(err, fs.ErrNotExist) {
		return &View{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open metadata: %w", err)
	}
	return DecodeView(b)
}

// save makes v the content of a file: a checkpoint, or a finished copy.
func save(path string, v *View) error {
	b, err := EncodeView(v)
	if err != nil {
		return err
	}
	return checkfile.Write(path, fileMagic, b)
}
