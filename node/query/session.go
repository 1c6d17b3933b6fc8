package query

import "time"

// Session is what a statement needs to know about who sent it. It lives as
// long as the statement.
type Session struct {
	User     string
	Database string         // for tables named without one; may not exist
	Zone     *time.Location // in which time literals without a zone are read; nil: the host's
	Request  int64          // the client's own number of this request, for tracing; zero: none
}
