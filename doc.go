// Package conclave is the front page of Conclave: coordination recipes for
// distributed programs, on etcd.
//
// Which package do I need?
//
//   - one holder at a time, or n permits: [github.com/conclavehq/conclave/lock]
//   - one leader of many, and everybody told who it is:
//     [github.com/conclavehq/conclave/election]
//   - a session, tokens and causes that every recipe shares:
//     [github.com/conclavehq/conclave/core]
//   - an etcd member inside this process:
//     [github.com/conclavehq/conclave/core/embedded]
//   - a real etcd and faults for tests:
//     [github.com/conclavehq/conclave/core/coretest]
//
// The command line is in cmd/conclave: go run ./cmd/conclave dev.
package conclave
