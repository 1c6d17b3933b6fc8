package sql

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// DatabaseOptions is how a database is kept. Replica, VGroups, Keep and
// Precision have an effect; the others are kept and shown because scripts set
// them.
type DatabaseOptions struct {
	Replica            int64     // default 1
	Quorum             int64     // default 1
	Strict             string    // default on
	DurationMinutes    int64     // of one data file; default 10 days
	KeepMinutes        [3]int64  // default 3650 days each
	Precision          Precision // default ms
	Update             int64     // default 0
	WALLevel           int64     // default 1
	WALFsyncPeriod     int64     // milliseconds; default 3000
	WALRetentionPeriod int64     // seconds, -1 for ever; default 3600
	WALRetentionSize   int64     // KB, -1 and 0 without limit; default 0
	VGroups            int64     // default 2
	Cache              int64     // MB; default 16
	Blocks             int64     // default 6
	Buffer             int64     // MB; default 256
	Pages              int64     // default 256
	PageSize           int64     // KB; default 4
	CacheModel         string    // default none
	CacheSize          int64     // MB; default 1
	CacheLast          int64     // default 0
	Comp               int64     // default 2
	MinRows            int64     // default 100
	MaxRows            int64     // default 4096
	STTTrigger         int64     // default 2
	SingleStable       int64     // default 0
	TablePrefix        int64     // default 0
	TableSuffix        int64     // default 0
	TSDBPageSize       int64     // KB; default 4
	Schemaless         int64     // default 0
	Comment            string
}

// MaxReplica is the largest number of copies of a database.
const MaxReplica = 4

// Setting is one option as a statement gives it.
type Setting struct {
	Option string // lower case, by its first name in the table of options
	Ints   []int64
	Text   string
}

const day = 24 * 60 // in minutes

// valueForm says how the value of an option is written.
type valueForm uint8

const (
	formInt  valueForm = iota
	formText           // a quoted word, one of choices if there are any
	formSpan           // a number of days, or with a unit m, h or d
)

// option is a row of the table of options: its names, how its value is written,
// what is allowed, and where it is kept.
type option struct {
	names    string // first the one that we show, then the others
	form     valueForm
	min, max int64
	preset   int64 // the default
	choices  string
	word     string // default of a text
	fixed    bool   // at creation
	number   func(*DatabaseOptions) *int64
	text     func(*DatabaseOptions) *string
}

const anyInt = math.MaxInt32

// options is all that CREATE DATABASE takes, in the order in which it is shown.
// KEEP and PRECISION have values of their own kind; apply knows them by name.
var options = []option{
	{names: "replica", min: 1, max: MaxReplica, preset: 1, number: func(o *DatabaseOptions) *int64 { return &o.Replica }},
	{names: "quorum", min: 1, max: 2, preset: 1, number: func(o *DatabaseOptions) *int64 { return &o.Quorum }},
	{names: "strict", form: formText, choices: "on off", word: "on", text: func(o *DatabaseOptions) *string { return &o.Strict }},
	{names: "duration days", form: formSpan, fixed: true, min: 60, max: 3650 * day, preset: 10 * day, number: func(o *DatabaseOptions) *int64 { return &o.DurationMinutes }},
	{names: "keep", form: formSpan, min: day, max: 365_000 * day},
	{names: "precision", form: formText, fixed: true, choices: "ms us ns"},
	{names: "update", fixed: true, max: 2, number: func(o *DatabaseOptions) *int64 { return &o.Update }},
	{names: "wal_level wal", max: 2, preset: 1, number: func(o *DatabaseOptions) *int64 { return &o.WALLevel }},
	{names: "wal_fsync_period fsync", max: 180_000, preset: 3000, number: func(o *DatabaseOptions) *int64 { return &o.WALFsyncPeriod }},
	{names: "wal_retention_period", min: -1, max: anyInt, preset: 3600, number: func(o *DatabaseOptions) *int64 { return &o.WALRetentionPeriod }},
	{names: "wal_retention_size", min: -1, max: math.MaxInt64, number: func(o *DatabaseOptions) *int64 { return &o.WALRetentionSize }},
	{names: "vgroups", fixed: true, min: 1, max: 1024, preset: 2, number: func(o *DatabaseOptions) *int64 { return &o.VGroups }},
	{names: "cache", max: anyInt, preset: 16, number: func(o *DatabaseOptions) *int64 { return &o.Cache }},
	{names: "blocks", max: anyInt, preset: 6, number: func(o *DatabaseOptions) *int64 { return &o.Blocks }},
	{names: "buffer", max: anyInt, preset: 256, number: func(o *DatabaseOptions) *int64 { return &o.Buffer }},
	{names: "pages", max: anyInt, preset: 256, number: func(o *DatabaseOptions) *int64 { return &o.Pages }},
	{names: "pagesize", max: anyInt, preset: 4, number: func(o *DatabaseOptions) *int64 { return &o.PageSize }},
	{names: "cachemodel", form: formText, choices: "none last_row last_value both", word: "none", text: func(o *DatabaseOptions) *string { return &o.CacheModel }},
	{names: "cachesize", max: anyInt, preset: 1, number: func(o *DatabaseOptions) *int64 { return &o.CacheSize }},
	{names: "cachelast", max: 3, number: func(o *DatabaseOptions) *int64 { return &o.CacheLast }},
	{names: "comp", max: 2, preset: 2, number: func(o *DatabaseOptions) *int64 { return &o.Comp }},
	{names: "minrows", max: anyInt, preset: 100, number: func(o *DatabaseOptions) *int64 { return &o.MinRows }},
	{names: "maxrows", max: anyInt, preset: 4096, number: func(o *DatabaseOptions) *int64 { return &o.MaxRows }},
	{names: "stt_trigger", max: anyInt, preset: 2, number: func(o *DatabaseOptions) *int64 { return &o.STTTrigger }},
	{names: "single_stable", max: 1, number: func(o *DatabaseOptions) *int64 { return &o.SingleStable }},
	{names: "table_prefix", min: -191, max: 191, number: func(o *DatabaseOptions) *int64 { return &o.TablePrefix }},
	{names: "table_suffix", min: -191, max: 191, number: func(o *DatabaseOptions) *int64 { return &o.TableSuffix }},
	{names: "tsdb_pagesize", max: anyInt, preset: 4, number: func(o *DatabaseOptions) *int64 { return &o.TSDBPageSize }},
	{names: "schemaless", max: 1, number: func(o *DatabaseOptions) *int64 { return &o.Schemaless }},
	{names: "comment", form: formText, text: func(o *DatabaseOptions) *string { return &o.Comment }},
}

// optionsByName holds every spelling.
var optionsByName = func() map[string]*option {
	m := map[string]*option{}
	for i := range options {
		for _, name := range strings.Fields(options[i].names) {
			m[name] = &options[i]
		}
	}
	return m
}()

// name is the spelling that is shown.
func (o *option) name() string {
	first, _, _ := strings.Cut(o.names, " ")
	return first
}

// DefaultOptions is what CREATE DATABASE without options means.
func DefaultOptions() DatabaseOptions {
	d := DatabaseOptions{KeepMinutes: [3]int64{3650 * day, 3650 * day, 3650 * day}}
	for _, o := range options {
		if o.number != nil {
			*o.number(&d) = o.preset
		}
		if o.text != nil {
			*o.text(&d) = o.word
		}
	}
	return d
}

// settings reads the options of a database, each at most once.
func (p *parser) settings() []Setting {
	var given []Setting
	seen := map[*option]bool{}
	for p.tok.kind == word {
		written := fold(p.tok.text)
		o := optionsByName[written]
		if o == nil {
			p.unexpected()
			return nil
		}
		if seen[o] {
			p.fail(errorf(CodeDatabaseOpt, "Invalid database option: %s stands twice", o.name()))
			return nil
		}
		seen[o] = true
		p.advance()
		given = append(given, p.setting(o, written))
	}
	return given
}

// setting reads the value of an option.
func (p *parser) setting(o *option, written string) Setting {
	s := Setting{Option: o.name()}
	switch {
	case o.form == formInt:
		s.Ints = []int64{p.optionInt(o)}
	case o.form == formText:
		s.Text = p.stringLit()
		if o.choices == "" {
			break
		}
		s.Text = fold(s.Text)
		if !strings.Contains(" "+o.choices+" ", " "+s.Text+" ") {
			p.fail(errorf(CodeDatabaseOpt, "Invalid database option: %s '%s': one of %s", written, clip(s.Text), o.choices))
		}
	case o.name() == "keep":
		s.Ints = []int64{p.minutes(o, written)}
		for len(s.Ints) < 3 && p.acceptSymbol(",") {
			s.Ints = append(s.Ints, p.minutes(o, written))
		}
	default:
		s.Ints = []int64{p.minutes(o, written)}
	}
	return s
}

func (p *parser) optionInt(o *option) int64 {
	minus := p.acceptSymbol("-")
	if p.tok.kind != integer {
		p.unexpected()
		return 0
	}
	written := p.tok.text
	v := p.number(minus)
	if p.err == nil && (v.Type != TypeBigInt || v.Int < o.min || v.Int > o.max) {
		if minus {
			written = "-" + written
		}
		p.fail(errorf(CodeDatabaseOpt, "Invalid database option: %s %s: %d to %d", o.name(), clip(written), o.min, o.max))
	}
	return v.Int
}

// minutes reads a number of days, or of m, h or d.
func (p *parser) minutes(o *option, written string) int64 {
	value := p.tok.text
	n := int64(-1)
	switch {
	case p.tok.kind == integer:
		if v := p.number(false); v.Type == TypeBigInt && v.Int <= o.max {
			n = v.Int * day
		}
	case p.tok.kind == span && written != "days":
		last := len(value) - 1
		// Not a Duration: 365,000 days are more than 64 bits of nanoseconds.
		if v, err := strconv.ParseUint(value[:last], 10, 40); err == nil {
			switch value[last] | 0x20 {
			case 'm':
				n = int64(v)
			case 'h':
				n = int64(v) * 60
			case 'd':
				n = int64(v) * day
			}
		}
		p.advance()
	default:
		p.unexpected()
		return 0
	}
	if p.err == nil && (n < o.min || n > o.max) {
		p.fail(errorf(CodeDatabaseOpt, "Invalid database option: %s %s: %s to %s", written, clip(value), minutesText(o.min), minutesText(o.max)))
	}
	return n
}

// minutesText is a number of minutes as it is written in an option.
func minutesText(n int64) string {
	if n%day == 0 {
		return fmt.Sprintf("%dd", n/day)
	}
	return fmt.Sprintf("%dm", n)
}

// applied is Apply for the parser.
func (p *parser) applied(base DatabaseOptions, given []Setting) DatabaseOptions {
	o, err := apply(base, given)
	if err != nil {
		p.fail(err)
	}
	return o
}

// Apply is base with what a statement gives put into it, or what does not fit
// together.
func Apply(base DatabaseOptions, given []Setting) (DatabaseOptions, error) {
	o, err := apply(base, given)
	return o, err.orNil()
}

func apply(base DatabaseOptions, given []Setting) (DatabaseOptions, *Error) {
	fixed := false // DURATION was given
	for _, s := range given {
		o := optionsByName[s.Option]
		switch {
		case o == nil, o.form != formText && len(s.Ints) == 0:
			return base, errorf(CodeDatabaseOpt, "Invalid database option: %s", clip(s.Option))
		case s.Option == "keep":
			for i := range base.KeepMinutes {
				base.KeepMinutes[i] = s.Ints[min(i, len(s.Ints)-1)]
			}
		case s.Option == "precision":
			base.Precision = Precision(strings.Index("ms us ns", s.Text) / 3)
		case o.number != nil:
			*o.number(&base) = s.Ints[0]
			fixed = fixed || s.Option == "duration"
		default:
			*o.text(&base) = s.Text
		}
	}
	keep := base.KeepMinutes
	if keep[1] < keep[0] || keep[2] < keep[1] {
		return base, errorf(CodeDatabaseOpt, "Invalid database option: keep %s: each level at least as long as the one before", keepText(keep))
	}
	if !fixed {
		base.DurationMinutes = min(base.DurationMinutes, keep[0])
	}
	if keep[0] < base.DurationMinutes {
		return base, errorf(CodeDatabaseOpt, "Invalid database option: keep %s: not below duration %s", keepText(keep), minutesText(base.DurationMinutes))
	}
	if base.Quorum > base.Replica {
		return base, errorf(CodeDatabaseOpt, "Invalid database option: quorum %d: at most replica %d", base.Quorum, base.Replica)
	}
	return base, nil
}

func keepText(keep [3]int64) string {
	return minutesText(keep[0]) + "," + minutesText(keep[1]) + "," + minutesText(keep[2])
}

// String is the setting as CREATE DATABASE takes it.
func (s Setting) String() string {
	o := optionsByName[s.Option]
	name := strings.ToUpper(s.Option)
	switch o.form {
	case formText:
		return name + " " + quoteString(s.Text)
	case formSpan:
		parts := make([]string, len(s.Ints))
		for i, n := range s.Ints {
			parts[i] = minutesText(n)
		}
		return name + " " + strings.Join(parts, ",")
	}
	return fmt.Sprintf("%s %d", name, s.Ints[0])
}

// Settings is every option, in the order in which SHOW CREATE DATABASE has them.
func (d DatabaseOptions) Settings() []Setting {
	list := make([]Setting, 0, len(options))
	for i := range options {
		o := &options[i]
		s := Setting{Option: o.name()}
		switch {
		case s.Option == "keep":
			s.Ints = d.KeepMinutes[:]
		case s.Option == "precision":
			s.Text = d.Precision.String()
		case o.number != nil:
			s.Ints = []int64{*o.number(&d)}
		default:
			s.Text = *o.text(&d)
		}
		list = append(list, s)
	}
	return list
}
