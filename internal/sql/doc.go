// Package sql turns the text of one statement into a typed tree, and the value
// groups of an INSERT straight into columns.
//
// It knows no table, no database and no clock: whoever runs a statement says
// which columns a table has, what time it is and in which zone. It starts no
// goroutine and opens no file.
package sql
