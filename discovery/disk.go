package discovery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// A disk keeps a copy of one service in a file, if it has a directory.
type disk struct {
	key  feedKey
	path string
	log  *slog.Logger

	latest chan *Snapshot // the newest that is not written
	done   sync.WaitGroup
}

// copied is what stands in the file.
type copied struct {
	V         int        `json:"v"`
	Namespace string     `json:"namespace"`
	Service   string     `json:"service"`
	Revision  int64      `json:"revision"`
	Instances []Instance `json:"instances"`
}

func newDisk(key feedKey, log *slog.Logger) *disk {
	d := &disk{key: key, log: log}
	if key.reader.dir == "" {
		return d
	}
	// A hash, because a name may be longer than a file's name may be.
	sum := sha256.Sum256([]byte(key.namespace + "/" + key.service))
	d.path = filepath.Join(key.reader.dir, "service-"+hex.EncodeToString(sum[:16])+".json")
	d.latest = make(chan *Snapshot, 1)
	d.done.Go(d.run)
	return d
}

// write has a snapshot written, soon; a newer one takes its place.
func (d *disk) write(s *Snapshot) {
	if d.latest == nil {
		return
	}
	select {
	case <-d.latest:
	default:
	}
	d.latest <- s
}

// close writes what waits, and ends.
func (d *disk) close() {
	if d.latest != nil {
		close(d.latest)
		d.done.Wait()
	}
}

func (d *disk) run() {
	for s := range d.latest {
		if err := d.save(s); err != nil {
			d.log.Warn("the copy of a service on disk is out of date", "service", d.key.service, "error", err)
		}
	}
}

// save replaces the file in one step, so that it is never half a list.
func (d *disk) save(s *Snapshot) (err error) {
	b, err := json.Marshal(copied{1, d.key.namespace, d.key.service, s.Revision, s.Instances})
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(d.path), filepath.Base(d.path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(b)
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), d.path)
}

// read returns the copy, nil if there is none that can be used.
func (d *disk) read() *Snapshot {
	if d.path == "" {
		return nil
	}
	b, err := os.ReadFile(d.path)
	if err == nil {
		var c copied
		if err = json.Unmarshal(b, &c); err == nil && (c.V != 1 || c.Namespace != d.key.namespace || c.Service != d.key.service || len(c.Instances) == 0) {
			err = fmt.Errorf("%s: not a copy of the service", d.path)
		}
		if err == nil {
			sortByID(c.Instances)
			return &Snapshot{Service: c.Service, Instances: c.Instances, Revision: c.Revision}
		}
	}
	if !os.IsNotExist(err) {
		d.log.Warn("the copy of a service on disk cannot be used", "service", d.key.service, "error", err)
	}
	return nil
}
