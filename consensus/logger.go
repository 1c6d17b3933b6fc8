package consensus

import "fmt"

// panicLogger silences the Raft library, whose lines an operator can't use, but
// keeps its panics: they mean that an invariant of the group is broken (R5).
type panicLogger struct{}

func (panicLogger) Debug(...any)            {}
func (panicLogger) Debugf(string, ...any)   {}
func (panicLogger) Info(...any)             {}
func (panicLogger) Infof(string, ...any)    {}
func (panicLogger) Warning(...any)          {}
func (panicLogger) Warningf(string, ...any) {}
func (panicLogger) Error(...any)            {}
func (panicLogger) Errorf(string, ...any)   {}

func (panicLogger) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (panicLogger) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (panicLogger) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (panicLogger) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
