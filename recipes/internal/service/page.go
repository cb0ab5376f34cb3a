package service

import (
	"context"
	"encoding/base64"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// A PageRequest asks for a page of names.
type PageRequest interface {
	GetNamespace() string
	GetPrefix() string
	GetPageSize() int32
	GetPageToken() string
}

// Page answers a request for names that somebody owns or waits for, as they are
// at one revision. next is the token of the next page, "" if there is none.
func (s *Service) Page(ctx context.Context, req PageRequest) (page []*state.Name, next string, err error) {
	space, err := s.Space(ctx, req.GetNamespace())
	if err != nil {
		return nil, "", err
	}
	if err := checkPrefix(req.GetPrefix()); err != nil {
		return nil, "", err
	}
	size := int(req.GetPageSize())
	if size < 0 {
		return nil, "", Invalidf("page_size", "%d is negative", size)
	}
	if size == 0 {
		size = defaultPage
	}
	from, err := start(space, req.GetPrefix(), req.GetPageToken())
	if err != nil {
		return nil, "", err
	}
	l := lister{c: s.Env.Client, space: space, size: min(size, maxPage), names: state.NewNames(space)}
	if err := l.read(ctx, from, keyspace.End(space.Beginning(req.GetPrefix()))); err != nil {
		return nil, "", recipe.Status(err)
	}
	return l.full, l.next(), nil
}

// checkPrefix reports whether names can begin with a text.
func checkPrefix(prefix string) error {
	return Invalid(keyspace.CheckText("prefix", prefix, keyspace.MaxName))
}

// start is the first key of a page. A token is the name before it.
func start(s state.Space, prefix, token string) (string, error) {
	from := s.Beginning(prefix)
	if token == "" {
		return from, nil
	}
	last, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || keyspace.CheckName("name", string(last)) != nil {
		return "", Invalidf("page_token", "is not one that List returned")
	}
	return max(from, keyspace.End(s.Name(string(last)))), nil
}

// A lister reads a page of names, all at one revision.
type lister struct {
	c     *clientv3.Client
	space state.Space
	size  int
	rev   int64 // of the first read

	names *state.Names
	open  string        // the name that is being read
	full  []*state.Name // those that were read to their end, and are in use
	more  bool
}

func (l *lister) read(ctx context.Context, from, end string) error {
	for _, r := range l.space.Names(from, end) {
		full, err := l.readRange(ctx, r)
		if full || err != nil {
			return err
		}
	}
	l.shut("")
	return nil
}

// readRange reports whether the page is full.
func (l *lister) readRange(ctx context.Context, r state.Range) (full bool, err error) {
	for {
		resp, err := Get(ctx, l.c, r.From, clientv3.WithRange(r.End), clientv3.WithLimit(readPage), clientv3.WithRev(l.rev))
		if err != nil {
			return false, err
		}
		if l.rev == 0 {
			l.rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			segment, _, _ := l.space.Split(string(kv.Key))
			if segment != l.open && l.shut(segment) {
				return true, nil
			}
			l.names.Put(kv)
		}
		if !resp.More {
			return false, nil
		}
		r.From = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// shut ends the name that was read and begins the next. It reports that the page
// is full.
func (l *lister) shut(next string) bool {
	if n := l.names.Get(l.open); n != nil && !n.Idle() && n.Text() != "" {
		if len(l.full) == l.size {
			l.more = true
			return true
		}
		l.full = append(l.full, n)
	}
	l.open = next
	return false
}

// next is the token of the next page.
func (l *lister) next() string {
	if !l.more {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(l.full[len(l.full)-1].Text()))
}
