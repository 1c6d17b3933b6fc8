package shell

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"github.com/tarbitrator/tarbitrator/client"
)

// Table prints rows as a table, or as a list of fields if it does not fit into
// the terminal that it is printed on.
func Table(out io.Writer, rows *client.Rows) {
	text := box(rows)
	top, _, _ := strings.Cut(text, "\n")
	if width := terminalWidth(out); width > 0 && utf8.RuneCountInString(top) > width {
		text = list(rows)
	}
	io.WriteString(out, text) //nolint:errcheck // nobody reads it any more
}

// terminalWidth is zero for what is no terminal.
func terminalWidth(out io.Writer) int {
	f, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// box draws rows as a table.
func box(rows *client.Rows) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = 0 // names as they are
	header := make(table.Row, len(rows.Columns))
	for i, c := range rows.Columns {
		header[i] = c.Name
	}
	t.AppendHeader(header)
	for row := range rows.Data {
		cells := make(table.Row, len(rows.Columns))
		for i := range cells {
			cells[i] = cell(rows, row, i)
		}
		t.AppendRow(cells)
	}
	return t.Render() + "\n"
}

// list writes a line for every field.
func list(rows *client.Rows) string {
	widest := 0
	for _, c := range rows.Columns {
		widest = max(widest, utf8.RuneCountInString(c.Name))
	}
	var b strings.Builder
	for row := range rows.Data {
		fmt.Fprintf(&b, "── row %d\n", row+1)
		for i, c := range rows.Columns {
			fmt.Fprintf(&b, "%*s: %s\n", widest, c.Name, cell(rows, row, i))
		}
	}
	return b.String()
}

// cell is one field as it is shown.
func cell(rows *client.Rows, row, column int) string {
	if rows.Data[row][column] == nil {
		return "NULL"
	}
	return printable(rows.Text(row, column))
}

// printable replaces what would move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, s)
}
