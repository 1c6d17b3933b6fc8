package vnode

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// Write carries a statement out, on the host that leads the group, and returns
// once it is committed and applied here. Besides the errors of this package,
// which say that nothing was stored, it returns those of consensus:
// NotLeaderError (forward it), ErrBusy and ErrLost (certainly not stored: try
// again), ErrUnknownOutcome (repeat it under the same ID). If ctx ends before
// the statement was proposed it is dropped and never run.
func (v *Vnode) Write(ctx context.Context, s Statement) (Result, error) {
	if err := v.batcher.notLeader(); err != nil {
		return Result{}, err
	}
	body, err := v.prepare(s.Op)
	if err != nil {
		return Result{}, err
	}
	statement := appendStatement(make([]byte, 0, len(body)+32), s.Op.kind(), s.ID, body)
	if len(statement) > MaxStatementBytes {
		return Result{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(statement), MaxStatementBytes)
	}
	out, err := v.batcher.do(ctx, statement)
	if err != nil {
		return Result{}, err
	}
	err = out.fault.err()
	if err != nil && out.result.Rows > 0 {
		err = fmt.Errorf("%w; %d rows of the statement's other tables are stored", err, out.result.Rows)
	}
	return out.result, err
}

// prepare checks an Op against what this replica knows, and makes its body.
// Whether tables exist is decided again when it is applied.
func (v *Vnode) prepare(op Op) ([]byte, error) {
	switch op := op.(type) {
	case Insert:
		return v.prepareInsert(op)
	case CreateStable:
		if err := checkColumns(op.Columns, op.Tags); err != nil {
			return nil, err
		}
		return appendOp(nil, op), checkName(op.Name)
	case CreateTable:
		if err := checkColumns(op.Columns, nil); err != nil {
			return nil, err
		}
		return appendOp(nil, op), checkName(op.Name)
	case CreateChild:
		stable := v.Stable(op.Using.Stable)
		if stable == nil {
			return nil, fmt.Errorf("%w: %s", ErrNoStable, op.Using.Stable)
		}
		tags, err := arrangeTags(stable, &op.Using)
		if err != nil {
			return nil, err
		}
		op.Using.Tags = tags
		return appendOp(nil, op), checkName(op.Name)
	case AddColumn:
		return appendOp(nil, op), checkColumn(op.Column)
	case SetTags:
		return v.prepareTags(op)
	case Note:
		if len(op.Value) > maxBlockBytes {
			return nil, fmt.Errorf("note %s: %w", op.Key, ErrTooLong)
		}
		return appendOp(nil, op), checkName(op.Key)
	}
	return appendOp(nil, op), nil
}

func checkName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: name %q is empty or longer than %d bytes", ErrBadStatement, name, MaxNameBytes)
	}
	return nil
}

func checkColumn(c sql.Column) error {
	if c.Type.Storage() == sql.StoreNone || !c.Type.Valid() || c.Length < 0 {
		return fmt.Errorf("column %s of type %s: %w", c.Name, c.Type, ErrWrongType)
	}
	return checkName(c.Name)
}

func checkColumns(columns, tags []sql.Column) error {
	if len(columns) < 2 || len(columns) > MaxColumns || columns[0].Type != sql.TypeTimestamp || len(tags) > MaxTags {
		return fmt.Errorf("%w: a table has a timestamp, 1 to %d more columns and at most %d tags",
			ErrBadStatement, MaxColumns-1, MaxTags)
	}
	seen := make(map[string]bool, len(columns)+len(tags))
	for _, c := range slices.Concat(columns, tags) {
		if err := checkColumn(c); err != nil {
			return err
		}
		if seen[c.Name] {
			return fmt.Errorf("column %s: %w", c.Name, ErrColumnExists)
		}
		seen[c.Name] = true
	}
	return nil
}

// arrangeTags puts tag values into the order of the super table.
func arrangeTags(s *Stable, u *Using) ([]sql.Value, error) {
	names := u.TagNames
	if names == nil {
		if len(u.Tags) != len(s.Tags) {
			return nil, fmt.Errorf("%w: %d tags for %s, which has %d", ErrBadStatement, len(u.Tags), s.Name, len(s.Tags))
		}
	} else if len(names) != len(u.Tags) {
		return nil, fmt.Errorf("%w: %d tag names and %d tags", ErrBadStatement, len(names), len(u.Tags))
	}
	tags := make([]sql.Value, len(s.Tags))
	for i, value := range u.Tags {
		at := i
		if names != nil {
			if at = slices.IndexFunc(s.Tags, func(c sql.Column) bool { return c.Name == names[i] }); at < 0 {
				return nil, fmt.Errorf("%w: %s of %s", ErrNoTag, names[i], s.Name)
			}
		}
		if err := checkTag(s.Tags[at], value); err != nil {
			return nil, err
		}
		tags[at] = value
	}
	size := 0
	for _, t := range tags {
		size += len(t.Text) + 8
	}
	if size > maxTagBytes {
		return nil, fmt.Errorf("tags of %d bytes, at most %d: %w", size, maxTagBytes, ErrTooLong)
	}
	return tags, nil
}

func checkTag(c sql.Column, v sql.Value) error {
	switch {
	case v.IsNull():
	case v.Type != c.Type:
		return fmt.Errorf("tag %s is %s, not %s: %w", c.Name, c.Type, v.Type, ErrWrongType)
	case len(v.Text) > bytesOf(c):
		return fmt.Errorf("tag %s: %w", c.Name, ErrTooLong)
	}
	return nil
}

// bytesOf is the most bytes that a text of this column has.
func bytesOf(c sql.Column) int {
	switch {
	case c.Length == 0:
		return math.MaxInt
	case c.Type == sql.TypeNChar:
		return 4 * c.Length
	}
	return c.Length
}

func (v *Vnode) prepareTags(op SetTags) ([]byte, error) {
	t := v.Table(op.Table)
	if t == nil || t.Stable == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoTable, op.Table)
	}
	if op.Names == nil {
		return nil, fmt.Errorf("%w: no tags named", ErrBadStatement)
	}
	_, err := arrangeTags(t.Stable, &Using{TagNames: op.Names, Tags: op.Tags})
	return appendOp(nil, op), err
}

// prepareInsert encodes the rows of an insert, once: the bytes of its blocks
// are those that every replica stores.
func (v *Vnode) prepareInsert(op Insert) ([]byte, error) {
	if len(op.Tables) == 0 {
		return nil, fmt.Errorf("%w: no tables", ErrBadStatement)
	}
	parts := make([]*part, 0, len(op.Tables))
	byName := make(map[string]*part)
	for i := range op.Tables {
		p, err := v.partOf(&op.Tables[i])
		if err != nil {
			return nil, err
		}
		// One table has one part: two could write the same timestamp under the
		// same stamp.
		if len(op.Tables) > 1 {
			if first := byName[p.name]; first != nil {
				if err := first.join(p); err != nil {
					return nil, err
				}
				continue
			}
			byName[p.name] = p
		}
		parts = append(parts, p)
	}
	e, _ := encoders.Get().(*encoder)
	defer encoders.Put(e)
	body := binary.AppendUvarint(nil, uint64(len(parts)))
	for _, p := range parts {
		var err error
		if body, err = v.appendPart(body, e, p); err != nil {
			return nil, fmt.Errorf("table %s: %w", p.name, err)
		}
		if len(body) > MaxStatementBytes {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxStatementBytes)
		}
	}
	return body, nil
}

// part is the rows of an insert for one table.
type part struct {
	insertTable
	schema *Schema
	rows   *sql.Rows // arranged as schema says
}

// maxAhead is how far the clock of another cluster may be ahead of ours.
const maxAhead = time.Hour

// partOf finds the table that rows are for.
func (v *Vnode) partOf(in *TableRows) (*part, error) {
	p := &part{insertTable: insertTable{name: in.Table, own: version{in.Stamp, in.Origin}, foreign: in.Origin != 0}}
	if p.foreign && in.Stamp.Ahead(v.now().UnixNano()) > maxAhead {
		return nil, fmt.Errorf("rows stamped %s by cluster %d: more than %s ahead: %w", in.Stamp, in.Origin, maxAhead, ErrOutOfRange)
	}
	if t := v.Table(in.Table); t != nil {
		p.id, p.schema = t.id, t.Schema()
	} else if err := v.create(p, in); err != nil {
		return nil, err
	}
	var err error
	if p.rows, err = arrangeRows(p.schema, in.Rows); err != nil {
		return nil, fmt.Errorf("table %s: %w", in.Table, err)
	}
	return p, nil
}

// create says how the table of a part is to be created.
func (v *Vnode) create(p *part, in *TableRows) error {
	if in.Using == nil {
		return fmt.Errorf("%w: %s", ErrNoTable, in.Table)
	}
	if err := checkName(in.Table); err != nil {
		return err
	}
	stable := v.Stable(in.Using.Stable)
	if stable == nil {
		return fmt.Errorf("%w: %s", ErrNoStable, in.Using.Stable)
	}
	p.schema, p.stable, p.under = stable.Schema(), stable.Name, stable.id
	var err error
	p.tags, err = arrangeTags(stable, in.Using)
	return err
}

// join adds the rows of another part for the same table.
func (p *part) join(o *part) error {
	if p.own != o.own || p.schema != o.schema {
		return fmt.Errorf("table %s twice in one statement: %w", p.name, ErrBadStatement)
	}
	joined := sql.NewRows(p.schema.Live(), p.rows.Len()+o.rows.Len())
	joined.Append(p.rows, 0, p.rows.Len())
	joined.Append(o.rows, 0, o.rows.Len())
	p.rows = joined
	return nil
}

func (v *Vnode) appendPart(body []byte, e *encoder, p *part) ([]byte, error) {
	rows := ascending(p.rows)
	if rows.Len() > 0 {
		if err := v.checkTimes(rows.Timestamps); err != nil {
			return nil, err
		}
	}
	cuts := v.cfg.cuts(rows)
	p.blocks = len(cuts) - 1
	body = appendInsertTable(body, &p.insertTable)
	block := e.block[:0]
	for i := 1; i < len(cuts); i++ {
		block = e.appendBlock(block[:0], rows, cuts[i-1], cuts[i], p.schema.Version, nil)
		if len(block) > maxBlockBytes {
			return nil, fmt.Errorf("%d rows of %d bytes: %w", cuts[i]-cuts[i-1], len(block), ErrTooLarge)
		}
		body = appendBytes(body, block)
	}
	e.block = block
	return body, nil
}

// arrangeRows gives rows the columns of the schema, in its order; columns that
// are not there are NULL. Rows that have them already are returned as they are.
func arrangeRows(s *Schema, rows *sql.Rows) (*sql.Rows, error) {
	want := s.Live()
	same := len(want) == len(rows.Columns)
	for i := range rows.Columns {
		same = same && rows.Columns[i].Name == want[i].Name
	}
	arranged := rows
	if !same {
		arranged = &sql.Rows{Timestamps: rows.Timestamps, Columns: make([]sql.Values, len(want))}
		for i := range want {
			arranged.Columns[i] = sql.Values{Column: want[i]}
		}
		for i := range rows.Columns {
			c := &rows.Columns[i]
			at := slices.IndexFunc(want, func(w sql.Column) bool { return w.Name == c.Name })
			if at < 0 {
				return nil, fmt.Errorf("%w: %s", ErrNoColumn, c.Name)
			}
			arranged.Columns[at] = *c
		}
	}
	for i := range arranged.Columns {
		c := &arranged.Columns[i]
		if c.Len() == 0 && rows.Len() > 0 {
			allNull(c, rows.Len())
		}
		if err := checkValues(want[i], c, rows.Len()); err != nil {
			return nil, err
		}
	}
	return arranged, nil
}

func checkValues(want sql.Column, c *sql.Values, rows int) error {
	if c.Type != want.Type {
		return fmt.Errorf("column %s is %s, not %s: %w", want.Name, want.Type, c.Type, ErrWrongType)
	}
	if c.Len() != rows {
		return fmt.Errorf("column %s has %d values for %d rows: %w", want.Name, c.Len(), rows, ErrBadStatement)
	}
	if want.Type.Storage() != sql.StoreBytes {
		return nil
	}
	most := bytesOf(want)
	for i := range rows {
		if n := len(c.Bytes(i)); n > most {
			return fmt.Errorf("column %s, row %d: %d bytes, at most %d: %w", want.Name, i+1, n, most, ErrTooLong)
		}
	}
	return nil
}

// ascending is rows in strictly rising order of time: of equal timestamps the
// last row is kept. Rows that are in order are returned as they are.
func ascending(rows *sql.Rows) *sql.Rows {
	ordered := true
	for i, ts := range rows.Timestamps[min(1, rows.Len()):] {
		ordered = ordered && ts > rows.Timestamps[i]
	}
	if ordered {
		return rows
	}
	order := make([]int, rows.Len())
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(rows.Timestamps[a], rows.Timestamps[b])
	})
	columns := make([]sql.Column, len(rows.Columns))
	for i := range columns {
		columns[i] = rows.Columns[i].Column
	}
	sorted := sql.NewRows(columns, rows.Len())
	for i, row := range order {
		if i+1 < len(order) && rows.Timestamps[order[i+1]] == rows.Timestamps[row] {
			continue
		}
		sorted.Append(rows, row, row+1)
	}
	return sorted
}

// latest is the latest timestamp that is accepted, by precision.
var latest = [...]int64{
	sql.Millisecond: time.Date(2970, 1, 1, 0, 0, 0, 0, time.UTC).Unix() * 1e3,
	sql.Microsecond: time.Date(2970, 1, 1, 0, 0, 0, 0, time.UTC).Unix() * 1e6,
	sql.Nanosecond:  math.MaxInt64 - int64(24*time.Hour), // the year 2262
}

// checkTimes refuses rows that are older than what is kept, or far too new. What
// is kept is asked of this host's clock, and of the log: what it takes for too old
// nobody would ever see.
func (v *Vnode) checkTimes(times []int64) error {
	oldest := v.cfg.Precision.Of(v.now().Add(-v.cfg.Keep))
	if aged := v.position().aged; aged > 0 {
		oldest = max(oldest, v.cfg.oldest(aged))
	}
	if first, last := times[0], times[len(times)-1]; first < oldest || last > latest[v.cfg.Precision] {
		return fmt.Errorf("%w: %d to %d, kept are %d to %d", ErrOutOfRange, first, last, oldest, latest[v.cfg.Precision])
	}
	return nil
}

// maxSpan bounds how much time a block covers. A scan starts that much before
// the range that it wants, so an outlier must not make it start years before.
func (cfg *Config) maxSpan() int64 { return int64(36 * time.Hour / cfg.Precision.Unit()) }

// roughBlockBytes is how many bytes of values go into one block. Encoded they
// are rarely more.
const roughBlockBytes = maxBlockBytes / 2

// cuts says where rows are cut into blocks: the first element is 0, the last
// one the number of rows.
func (cfg *Config) cuts(rows *sql.Rows) []int {
	cuts := make([]int, 1, 2)
	if rows.Len() == 0 {
		return cuts
	}
	fixed := 8
	var texts []*sql.Values
	for i := range rows.Columns {
		if c := &rows.Columns[i]; c.Type.Storage() == sql.StoreBytes {
			texts = append(texts, c)
		} else {
			fixed += 9
		}
	}
	start, size := 0, 0
	maxSpan := cfg.maxSpan()
	for i, ts := range rows.Timestamps {
		more := fixed
		for _, c := range texts {
			more += len(c.Bytes(i)) + 4
		}
		if i > start && (i-start == blockRows || ts-rows.Timestamps[start] > maxSpan || size+more > roughBlockBytes) {
			cuts = append(cuts, i)
			start, size = i, 0
		}
		size += more
	}
	return append(cuts, rows.Len())
}
