package query

import (
	"testing"

	"github.com/tarbitrator/tarbitrator/internal/sql"
)

// An end point is written as hosts call themselves, or they would never be let in.
func TestEndPoints(t *testing.T) {
	for written, want := range map[string]string{
		"a": "a:6030", "A.example.com:7000": "a.example.com:7000", "10.0.0.1": "10.0.0.1:6030",
		"[::1]": "[::1]:6030", "[FE80::1]:7000": "[fe80::1]:7000",
	} {
		e, err := sql.ParseEndPoint(written)
		if err != nil {
			t.Fatal(err)
		}
		if got := endPoint(e, defaultPort); got != want {
			t.Errorf("%s: got %s, want %s", written, got, want)
		}
	}
}
