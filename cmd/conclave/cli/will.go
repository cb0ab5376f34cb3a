package cli

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
)

// carrying bounds what a guard tries for its dead wrapper. After it the TTL decides.
const carrying = 20 * time.Second

// A will says which session a guard ends when the command's wrapper died and
// nothing of the command is left, so that others need not wait for the TTL. It
// travels through a pipe: it may hold a token.
type will struct {
	API       []string `json:"api,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	Session   string   `json:"session"` // an id at a host, or a lease
	CACert    string   `json:"cacert,omitempty"`
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
	Token     string   `json:"token,omitempty"`
}

// will is the will for a session.
func (a *app) will(t target, s session) (string, error) {
	with, err := a.access(t)
	if err != nil {
		return "", err
	}
	w := will{API: t.api, Endpoints: t.endpoints, Namespace: a.namespace(t), Session: s.ID(),
		CACert: with.cacert, Cert: with.cert, Key: with.key, Token: with.token}
	for _, file := range []*string{&w.CACert, &w.Cert, &w.Key} {
		if *file == "" {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil { // the guard runs in the root directory
			return "", err
		}
	}
	b, err := json.Marshal(w)
	return string(b), err
}

// carryOut ends the session of a will. Nobody is left to hear of a failure: the
// session then ends after its TTL.
func carryOut(text string) {
	var w will
	if json.Unmarshal([]byte(text), &w) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), carrying)
	defer cancel()
	if len(w.API) == 0 {
		w.revoke(ctx)
		return
	}
	c, err := remote.New(remote.Config{URLs: w.API, CACert: w.CACert, Cert: w.Cert, Key: w.Key, Token: w.Token})
	if err != nil {
		return
	}
	_ = c.CloseSession(ctx, w.Session, w.Namespace)
	_ = c.Close()
}

func (w will) revoke(ctx context.Context) {
	lease, err := strconv.ParseInt(w.Session, 16, 64)
	if err != nil {
		return
	}
	a := &app{flags: globals{cacert: w.CACert, cert: w.Cert, key: w.Key}}
	c, err := a.dial(ctx, target{endpoints: w.Endpoints})
	if err != nil {
		return
	}
	_, _ = c.Revoke(ctx, clientv3.LeaseID(lease))
	_ = c.Close()
}
