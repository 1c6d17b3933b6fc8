package api

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"encoding/base64"
)

// oldTokenKey is the published key of the tokens that TDengine issues. Such a
// token is the password in a thin disguise; it is accepted, never issued.
var oldTokenKey = []byte{64, 182, 122, 48, 86, 115, 253, 68}

// oldToken reads a token that an old script has kept: base64 of DES-ECB of the
// user in 24 bytes and the password in 24 or the next multiple of 8.
func oldToken(token string) (user, password string, ok bool) {
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || len(b) < 48 || len(b)%8 != 0 || len(b) > 24+256 {
		return "", "", false
	}
	block, err := des.NewCipher(oldTokenKey)
	if err != nil {
		return "", "", false
	}
	decryptBlocks(block, b)
	user, password = untilZero(b[:24]), untilZero(b[24:])
	return user, password, user != "" && password != ""
}

func decryptBlocks(block cipher.Block, b []byte) {
	for size := block.BlockSize(); len(b) >= size; b = b[size:] {
		block.Decrypt(b[:size], b[:size])
	}
}

func untilZero(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
