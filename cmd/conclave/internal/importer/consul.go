package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxReply bounds what one answer of Consul may hold.
const maxReply = 1 << 30

// consulPair is an entry of Consul's, in its API and, in lower case, in what `consul kv export` prints.
type consulPair struct {
	Key     string
	Flags   uint64
	Value   []byte
	Session string
}

// ParseConsul reads what `consul kv export` printed.
func ParseConsul(r io.Reader) (Found, error) {
	var pairs []consulPair
	if err := json.NewDecoder(r).Decode(&pairs); err != nil {
		return Found{}, fmt.Errorf("this is not what consul kv export prints: %w", err)
	}
	return foundInConsul(pairs), nil
}

// FromConsul reads all keys below prefix over the API of a Consul agent. The token may be empty; datacenter too.
func FromConsul(ctx context.Context, c *http.Client, address, token, datacenter, prefix string) (Found, error) {
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return Found{}, fmt.Errorf("consul: %q is not a URL such as http://127.0.0.1:8500", address)
	}
	u := base.JoinPath("v1", "kv").String() + "/" + strings.ReplaceAll(url.PathEscape(prefix), "%2F", "/") + "?recurse=true"
	if datacenter != "" {
		u += "&dc=" + url.QueryEscape(datacenter)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return Found{}, err
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := c.Do(req)
	if err != nil {
		return Found{}, fmt.Errorf("consul: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body := http.MaxBytesReader(nil, resp.Body, maxReply)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return Found{}, nil // it holds no such key
	default:
		b, err := io.ReadAll(io.LimitReader(body, 300))
		return Found{}, errors.Join(fmt.Errorf("consul: %s: %s", resp.Status, strings.TrimSpace(string(b))), err)
	}
	var pairs []consulPair
	if err := json.NewDecoder(body).Decode(&pairs); err != nil {
		return Found{}, fmt.Errorf("consul: %w", err)
	}
	return foundInConsul(pairs), nil
}

func foundInConsul(pairs []consulPair) Found {
	var f Found
	flags, locked, folders := 0, 0, 0
	for _, p := range pairs {
		if strings.HasSuffix(p.Key, "/") && len(p.Value) == 0 {
			folders++ // what its page makes for a folder
			continue
		}
		if p.Flags != 0 {
			flags++
		}
		if p.Session != "" {
			locked++
		}
		f.Items = append(f.Items, Item{From: p.Key, Key: p.Key, Value: p.Value})
	}
	f.note(folders, "are folders without a value: etcd 3 has keys only")
	f.note(flags, "have flags, which have no counterpart")
	f.note(locked, "are locked by a session: they come as ordinary keys")
	return f
}
