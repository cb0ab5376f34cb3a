package launcher

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
)

// attachTo takes a program that runs already for the process: see plugins.Debug. A
// connection stands for it. What is sent first is the environment; its first line
// is the handshake, the others are what it logs; its end is the end of the process.
func (r *runner) attachTo() error {
	conn, err := net.Dial("unix", r.attach) //nolint:noctx // a socket of this machine answers or refuses at once
	if err != nil {
		r.never()
		return fmt.Errorf("nobody can be attached to: %w", err)
	}
	env, err := json.Marshal(r.cmd.Env)
	if err == nil {
		_, err = conn.Write(append(env, '\n'))
	}
	if err != nil {
		conn.Close()
		r.never()
		return err
	}
	r.conn.Store(&conn)
	go func() {
		defer close(r.done)
		r.readStdout(conn)
		conn.Close()
		close(r.exited)
		_ = r.line.Close() // a reader of the handshake line that nobody reads
	}()
	if r.killed.Load() { // before there was anything to end
		conn.Close()
	}
	return nil
}

// letGo ends the connection to a program that was attached to.
func (r *runner) letGo() {
	if conn := r.conn.Load(); conn != nil {
		(*conn).Close()
	}
}

// home is the folder in which the process's own socket has to be.
func (r *runner) home() string {
	if r.attach != "" {
		return filepath.Dir(r.attach)
	}
	return r.dir
}
