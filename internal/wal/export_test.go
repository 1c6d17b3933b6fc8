package wal

// Segments tells tests how many segments hold entries that are needed, with the
// active one, and how many are ready to be written to.
func (l *Log) Segments() (live, spares int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.older) + 1, len(l.mu.pool.spares)
}

// ActiveName is the file that is written to, and End where the next record
// goes.
func (l *Log) ActiveName() string { return segmentName(l.activeNumber()) }

func (l *Log) End() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.active.end
}

// ScanSegment reads what a segment file holds as recovery does, whatever its
// bytes are, and returns how far it got.
func ScanSegment(file File, size int64) (records int, err error) {
	b := make([]byte, headerBytes)
	if _, err := file.ReadAt(b, 0); err != nil {
		return 0, err
	}
	logID, number, err := parseHeader(b)
	if err != nil {
		return 0, err
	}
	s := &segment{number: number, file: file, size: size, salt: newSalt(logID, number)}
	var local localIndex
	sc := newScanner(s, size)
	for {
		rec, p, err := sc.next()
		if err == nil {
			err = local.note(rec, p)
		}
		if err != nil {
			sc.findCommit(func(commitMark) bool { return false })
			return records, err
		}
		records++
	}
}

// Reseal gives the record at off in a segment the right checksum for its bytes,
// so that a fuzzer gets past it.
func Reseal(segment []byte, off int) bool {
	logID, number, err := parseHeader(segment)
	if err != nil || off+recordHeader > len(segment) {
		return false
	}
	size, err := parseLength(segment[off:])
	if err != nil || size > int64(len(segment)-off) {
		return false
	}
	length := recordLength(segment[off:])
	b := append([]byte(nil), segment[off:off+recordHeader+length]...)
	sealRecord(b, newSalt(logID, number), int64(off), kind(b[8]), b[9], groupOf(b))
	copy(segment[off:], b[:recordHeader+length])
	return true
}
