package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/nodes"
)

const (
	controlName = "dev.sock"
	// maxSocketPath is what fits into a socket's address on every system.
	maxSocketPath = 103
)

// A control is the socket on which a dev of several nodes takes commands. Nil: there
// is none.
type control struct {
	path   string
	server *http.Server
	done   chan struct{}
}

func (c *devCluster) listenControl(dir string) (*control, error) {
	path := filepath.Join(dir, controlName)
	if len(path) > maxSocketPath {
		var err error
		if dir, err = c.app.stateDir(); err != nil {
			return new(control), err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return new(control), err
		}
		path = filepath.Join(dir, fmt.Sprintf("%d-%s", os.Getpid(), controlName))
	}
	// The claim on the directory says that a socket which stands there is a dead one's.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return new(control), err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return new(control), err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return new(control), errors.Join(err, l.Close())
	}
	out := &control{path: path, server: &http.Server{Handler: c.handler(), ReadHeaderTimeout: answering}, done: make(chan struct{})}
	go func() {
		defer close(out.done)
		_ = out.server.Serve(l) // ends with close
	}()
	return out, nil
}

func (c *control) close() {
	if c.server == nil {
		return
	}
	_ = c.server.Close()
	<-c.done
}

// A nodeView is one node, as dev ls shows it.
type nodeView struct {
	Name  string `json:"name"`
	State string `json:"state"`
	PID   int    `json:"pid,omitempty"`
	API   string `json:"api"`
	Etcd  string `json:"etcd"`
	Peer  string `json:"peer"`
}

// A controlAnswer is what a dev answers to a command.
type controlAnswer struct {
	Nodes []nodeView   `json:"nodes,omitempty"`
	Error *nodeFailure `json:"error,omitempty"`
}

func (c *devCluster) handler() http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, err error) {
		answer := controlAnswer{Nodes: c.view()}
		if err != nil {
			e := describe(err)
			answer.Error = &nodeFailure{e.Exit, e}
		}
		_ = json.NewEncoder(w).Encode(answer) // a command that has gone needs no answer
	}
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) { reply(w, nil) })
	mux.HandleFunc("POST /{verb}", func(w http.ResponseWriter, r *http.Request) {
		chosen, err := c.choose(r.URL.Query()["node"])
		if err == nil {
			err = c.carryOut(r.Context(), r.PathValue("verb"), chosen)
		}
		reply(w, err)
	})
	return mux
}

func (c *devCluster) view() []nodeView {
	var all []nodeView
	for i, n := range c.all {
		state, pid := n.State()
		at := c.plan.Nodes[i]
		all = append(all, nodeView{n.Name, state, pid, at.API, at.Client, at.Peer})
	}
	return all
}

// choose finds nodes by their numbers or names.
func (c *devCluster) choose(wanted []string) ([]*devNode, error) {
	var chosen []*devNode
	for _, n := range c.all {
		for _, w := range wanted {
			if w == n.Name || "node"+w == n.Name {
				chosen = append(chosen, n)
				break
			}
		}
	}
	for _, w := range wanted {
		if i := strings.TrimPrefix(w, "node"); len(i) != 1 || i < "1" || i > fmt.Sprint(len(c.all)) {
			return nil, &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found",
				Message: fmt.Sprintf("there is no node %q: they are 1 to %d", w, len(c.all)), Hint: "conclave dev ls"}
		}
	}
	return chosen, nil
}

// carryOut carries out a command. Two that concern one node come one after the other.
func (c *devCluster) carryOut(ctx context.Context, verb string, chosen []*devNode) error {
	for _, n := range chosen { // in the order of their numbers, so that no two wait for each other
		n.turn.Lock()
	}
	defer func() {
		for _, n := range chosen {
			n.turn.Unlock()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, devStart)
	defer cancel()
	switch verb {
	case "start":
		return c.begin(ctx, down(chosen))
	case "stop":
		c.end(chosen)
	case "restart":
		for _, n := range chosen { // one at a time, so that the others go on serving
			c.end([]*devNode{n})
			if err := c.begin(ctx, []*devNode{n}); err != nil {
				return err
			}
		}
	case "kill":
		var all sync.WaitGroup
		for _, n := range chosen {
			all.Go(n.Kill)
		}
		all.Wait()
	default:
		return usage("invalid_arguments", "", "no command %q", verb)
	}
	return nil
}

// down leaves out the nodes that run.
func down(chosen []*devNode) []*devNode {
	var out []*devNode
	for _, n := range chosen {
		if state, _ := n.State(); state == nodes.Down {
			out = append(out, n)
		}
	}
	return out
}

// askDev has a dev carry out a command.
func askDev(ctx context.Context, socket, method, path string) ([]nodeView, error) {
	ctx, cancel := context.WithTimeout(ctx, devStart+nodeStop+5*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, "http://dev"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_host", cause: err,
			Message: "the conclave dev does not answer: " + oneLine(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	var answer controlAnswer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the conclave dev ended meanwhile: %w", err)
	}
	if f := answer.Error; f != nil && f.Error != nil {
		f.Error.Exit = f.Exit
		return answer.Nodes, f.Error
	}
	return answer.Nodes, nil
}
