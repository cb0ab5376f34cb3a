// Package importer reads the keys of other stores and writes them into etcd.
//
// A source gives everything that it has, and notes on what has no counterpart in etcd: directories without keys, what lives only as long as
// somebody's session, flags and access lists. [Plan] maps the keys and finds what cannot work before anything is written. [Write] then
// writes what is missing, and never over another value unless it is told to, so that it can be interrupted and run again.
package importer
