package conf

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// kind says how the value of a key is written.
type kind uint8

const (
	kindInt kind = iota
	kindSwitch
	kindDuration
	kindBytes
	kindEndPoint
	kindHost
	kindPath
	kindZone
	kindKey
)

// keyBytes is the length of a key, whatever it is written in.
const keyBytes = 32

// set reads value, checks it and puts it into its field of c. Its error does not
// name the key.
func (k *key) set(c *Config, value string) error {
	switch field := k.field(c).(type) {
	case *string:
		s, err := k.text(value)
		if err != nil {
			return err
		}
		*field = s
	case *time.Duration:
		d, err := parseDuration(value, k.unit)
		if err != nil {
			return err
		}
		if d < time.Duration(k.min)*k.unit || d > time.Duration(k.max)*k.unit {
			return fmt.Errorf("%s is out of range: %s", formatDuration(d), k.limits())
		}
		*field = d
	case *uint64:
		n, err := parseBytes(value)
		if err != nil {
			return err
		}
		if n < uint64(k.min) || n > uint64(k.max) {
			return fmt.Errorf("%s is out of range: %s", formatBytes(n), k.limits())
		}
		*field = n
	default:
		return k.setInt(field, value)
	}
	return nil
}

func (k *key) setInt(field any, value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is not a number: %s", value, k.limits())
	}
	if err != nil || n < k.min || n > k.max {
		return fmt.Errorf("%s is out of range: %s", value, k.limits())
	}
	switch field := field.(type) {
	case *int:
		*field = int(n)
	case *int64:
		*field = n
	case *uint16:
		*field = uint16(n)
	case *bool:
		*field = n == 1
	}
	return nil
}

// get is the value of c's field as set reads it.
func (k *key) get(c *Config) string {
	switch field := k.field(c).(type) {
	case *string:
		return *field
	case *time.Duration:
		return formatDuration(*field)
	case *uint64:
		return formatBytes(*field)
	case *bool:
		if *field {
			return "1"
		}
		return "0"
	case *int:
		return strconv.Itoa(*field)
	case *int64:
		return strconv.FormatInt(*field, 10)
	case *uint16:
		return strconv.Itoa(int(*field))
	}
	panic("conf: no way to print " + k.name)
}

// text checks a value of the kinds that are kept as text.
func (k *key) text(value string) (string, error) {
	if value == "" {
		if k.kind == kindPath {
			return "", errors.New("a path is needed")
		}
		return "", nil
	}
	switch k.kind {
	case kindEndPoint:
		return endPoint(value, k.port)
	case kindHost:
		return host(value)
	case kindPath:
		if !filepath.IsAbs(value) {
			return "", fmt.Errorf("%q is not an absolute path", value)
		}
		return filepath.Clean(value), nil
	case kindKey:
		_, err := parseKey(value)
		return value, err
	}
	if strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_+-") != "" {
		return "", fmt.Errorf("%q is not the name of a zone, such as Europe/Berlin", value)
	}
	return value, nil
}

// parseKey reads a key in hexadecimal digits or in either form of base64, padded
// or not. Its error does not show what was read.
func parseKey(s string) (key [keyBytes]byte, err error) {
	var b []byte
	if len(s) == hex.EncodedLen(keyBytes) {
		b, err = hex.DecodeString(s)
	} else {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		b, err = base64.RawStdEncoding.DecodeString(plain)
	}
	if err != nil || len(b) != keyBytes {
		return key, fmt.Errorf("it is no key of %d bytes in base64 or hexadecimal: make one with openssl rand -base64 %d", keyBytes, keyBytes)
	}
	return [keyBytes]byte(b), nil
}

// host checks the name or address of a machine.
func host(s string) (string, error) {
	const maxHost = 128
	if net.ParseIP(s) != nil {
		return s, nil
	}
	if s == "" || strings.ContainsAny(s[:1], ".-") || len(s) > maxHost || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return "", fmt.Errorf("%q is not the name or address of a host", s)
	}
	return strings.ToLower(s), nil
}

// endPoint reads host:port, or a host alone, which means the port given.
func endPoint(s string, port int) (string, error) {
	name, number := s, strconv.Itoa(port)
	if net.ParseIP(strings.Trim(s, "[]")) != nil {
		name = strings.Trim(s, "[]")
	} else if strings.Contains(s, ":") {
		var err error
		if name, number, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("%q is not host:port", s)
		}
	}
	name, err := host(name)
	if err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q: the port must be from 1 to 65535", s)
	}
	return net.JoinHostPort(name, number), nil
}

// parseDuration reads a number with a unit, ns to d, or a whole number of unit.
func parseDuration(s string, unit time.Duration) (time.Duration, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		d := time.Duration(n) * unit
		if n != 0 && d/unit != time.Duration(n) {
			return 0, fmt.Errorf("%s is too long", s)
		}
		return d, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err == nil && n <= 36500 && n >= 0 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a duration: a number, with ms, s, m, h or d if it is not in units of %s", s, unitName(unit))
}

// formatDuration is d in the largest unit that it is a whole number of.
func formatDuration(d time.Duration) string {
	for _, u := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second, time.Millisecond} {
		if d != 0 && d%u == 0 {
			return strconv.FormatInt(int64(d/u), 10) + unitName(u)
		}
	}
	if d == 0 {
		return "0s"
	}
	return d.String()
}

// byteUnits are the units of an amount of data, the largest first.
var byteUnits = []struct {
	name  string
	bytes uint64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// parseBytes reads a whole number with a unit, KiB to TiB, or of MiB.
func parseBytes(s string) (uint64, error) {
	number, unit := s, uint64(1<<20)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, unit = rest, u.bytes
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not an amount of data: a number, with KiB, GiB or TiB if it is not in units of MiB", s)
	}
	return n * unit, nil
}

// formatBytes is n in the largest unit that it is a whole number of.
func formatBytes(n uint64) string {
	for _, u := range byteUnits {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatUint(n/u.bytes, 10) + u.name
		}
	}
	return "0MiB"
}

func unitName(unit time.Duration) string {
	switch unit {
	case 24 * time.Hour:
		return "d"
	case time.Hour:
		return "h"
	case time.Minute:
		return "m"
	case time.Second:
		return "s"
	}
	return "ms"
}
