// Package fencing shows how an HTTP service refuses late writes of a client that
// has lost its lock: the client sends its token, and the service keeps the
// largest one that it has seen for each resource.
package fencing

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/conclavehq/conclave/core"
)

// Header carries the token of the client's lock.
const Header = "Conclave-Fence"

// A Fence remembers the largest token for every resource. This one does it in
// memory, and forgets with the process: a service that restarts keeps the token
// with the data, and writes both at once.
type Fence struct {
	mu        sync.Mutex
	resources map[string]*resource
}

type resource struct {
	mu      sync.Mutex // held while a request is served: the check and the write are one step
	largest int64
}

// Protect lets requests through to next in the order of their tokens, one at a
// time for each path. GET and HEAD pass without a token.
//
// A request without a token is answered with 428, one whose token cannot be read
// with 400, and one whose token is smaller than that of an earlier request on
// the same path with 409. None of them reaches next.
func (f *Fence) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		sent := r.Header.Get(Header)
		if sent == "" {
			http.Error(w, "the header "+Header+" is missing", http.StatusPreconditionRequired)
			return
		}
		// snippet:http
		token, err := strconv.ParseInt(sent, 10, 64)
		if err != nil {
			http.Error(w, "the header "+Header+" is no token", http.StatusBadRequest)
			return
		}
		of := f.resource(r.URL.Path)
		of.mu.Lock()
		defer of.mu.Unlock()
		if token < of.largest {
			http.Error(w, fmt.Sprintf("token %d is stale: %d has written", token, of.largest), http.StatusConflict)
			return
		}
		of.largest = token
		next.ServeHTTP(w, r)
		// end
	})
}

func (f *Fence) resource(path string) *resource {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resources == nil {
		f.resources = make(map[string]*resource)
	}
	if f.resources[path] == nil {
		f.resources[path] = new(resource)
	}
	return f.resources[path]
}

// Transport sends the token of the lock that a request's context comes from.
// Requests of other contexts are sent as they are.
type Transport struct {
	// Base sends the requests; nil stands for http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if token, ok := core.TokenFrom(r.Context()); ok {
		r = r.Clone(r.Context())
		r.Header.Set(Header, strconv.FormatInt(int64(token), 10))
	}
	if t.Base != nil {
		return t.Base.RoundTrip(r)
	}
	return http.DefaultTransport.RoundTrip(r)
}
