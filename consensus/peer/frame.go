package peer

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// frameType says what a frame holds. The numbers are part of the wire format.
type frameType uint8

const (
	frameNop      frameType = 1 // nothing: the sender is alive
	frameMessages frameType = 2 // AppendMessages
	frameRequest  frameType = 3 // a piece of a call's request
	frameReply    frameType = 4 // a piece of a call's answer
	frameCancel   frameType = 5 // the caller gave up
	frameOffer    frameType = 6 // AppendOffer, in the handshake only
	frameVerdict  frameType = 7 // on the other's offer, in the handshake only
	frameSequence frameType = 8 // how far the sender's log has come
)

// Header: type, three bytes of zero, length of the payload, little endian.
// The payload follows, encrypted, and a tag over header and payload.
const (
	headerBytes = 8
	tagBytes    = 16
	// maxFrame bounds the payload of one frame on Bulk and calls. A Raft
	// message holds at most 1 MiB of entries, or a single one of up to 8 MiB.
	maxFrame = 16 << 20
	// maxBeatsFrame bounds it on Beats, where an arbitrator listens to
	// clusters that it need not trust with its memory.
	maxBeatsFrame = 256 << 10
)

func frameLimit(c Class) int {
	if c == Beats {
		return maxBeatsFrame
	}
	return maxFrame
}

// sealer closes frames, or opens them, in order. The number of the frame goes
// into the nonce and never onto the wire: a frame that is repeated, left out or
// moved does not open.
type sealer struct {
	aead  cipher.AEAD
	count uint64
}

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return &sealer{aead: aead}, nil
}

func (s *sealer) nonce() [12]byte {
	var n [12]byte
	binary.LittleEndian.PutUint64(n[:], s.count)
	s.count++
	return n
}

// begin appends room for a frame's header to dst; the caller appends the
// payload and calls end with the offset that begin returned.
func begin(dst []byte, t frameType) ([]byte, int) {
	return append(dst, byte(t), 0, 0, 0, 0, 0, 0, 0), len(dst)
}

// end closes the frame that starts at offset start of dst, in place.
func (s *sealer) end(dst []byte, start int) []byte {
	header := dst[start : start+headerBytes]
	payload := dst[start+headerBytes:]
	binary.LittleEndian.PutUint32(header[4:], uint32(len(payload)))
	nonce := s.nonce()
	return s.aead.Seal(dst[:start+headerBytes], nonce[:], payload, header)
}

// readFrame reads and opens the next frame of r. The payload is the caller's.
func (s *sealer) readFrame(r io.Reader, limit int) (frameType, []byte, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.LittleEndian.Uint32(header[4:]))
	if n > limit {
		return 0, nil, fmt.Errorf("frame of %d bytes: at most %d", n, limit)
	}
	sealed, err := readBytes(r, n+tagBytes)
	if err != nil {
		return 0, nil, err
	}
	nonce := s.nonce()
	payload, err := s.aead.Open(sealed[:0], nonce[:], sealed, header[:])
	if err != nil {
		return 0, nil, fmt.Errorf("open frame %d: %w", s.count, err)
	}
	return frameType(header[0]), payload, nil
}

// readBytes reads n bytes. What a header announces is not proved yet, so a
// large amount is allocated only as it arrives.
func readBytes(r io.Reader, n int) ([]byte, error) {
	const step = 256 << 10
	b := make([]byte, min(n, step))
	for read := 0; ; {
		if _, err := io.ReadFull(r, b[read:]); err != nil {
			return nil, err
		}
		if read = len(b); read == n {
			return b, nil
		}
		more := min(n-read, read) // twice as much each time
		b = append(b, make([]byte, more)...)
	}
}
