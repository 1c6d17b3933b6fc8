package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// params are the query parameters of a request. Unknown ones are ignored.
type params struct {
	text     timeZone // of returned timestamps: conn_tz, else tz, else UTC
	literals timeZone // of time literals without one: conn_tz, else the host's (nil)
	request  int64
	asMaps   bool
	timing   bool
	token    bool // present: a Bearer header would be refused
}

func parseParams(r *http.Request) (p params, err error) {
	if r.URL.RawQuery == "" {
		return p, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return p, fmt.Errorf("illegal param, %w", err)
	}
	if p.text, err = zoneOf(values.Get("tz")); err != nil {
		return p, err
	}
	if p.literals, err = zoneOf(values.Get("conn_tz")); err != nil {
		return p, err
	}
	if p.literals != nil {
		p.text = p.literals
	}
	if s := values.Get("req_id"); s != "" {
		if p.request, err = strconv.ParseInt(s, 10, 64); err != nil {
			return p, errors.New("illegal param, req_id must be numeric " + strconv.Quote(s))
		}
	}
	if s := values.Get("row_with_meta"); s != "" {
		if p.asMaps, err = strconv.ParseBool(s); err != nil {
			return p, errors.New("illegal param, row_with_meta must be boolean " + strconv.Quote(s))
		}
	}
	p.timing = values.Get("timing") == "true"
	p.token = values.Has("token")
	return p, nil
}

// zones keeps the few zones that clients name: loading one reads a file.
var zones struct {
	sync.Mutex
	byName map[string]*time.Location
}

// maxZones bounds what is kept; there are some 600 names.
const maxZones = 1024

func zoneOf(name string) (timeZone, error) {
	if name == "" {
		return nil, nil
	}
	zones.Lock()
	zone, ok := zones.byName[name]
	zones.Unlock()
	if ok {
		return zone, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("illegal param, unknown time zone %q", name)
	}
	zones.Lock()
	defer zones.Unlock()
	if zones.byName == nil || len(zones.byName) >= maxZones {
		zones.byName = map[string]*time.Location{}
	}
	zones.byName[name] = zone
	return zone, nil
}
