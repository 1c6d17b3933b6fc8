// Package mnode replicates the metadata of a cluster: who belongs to it, which
// databases there are, which directories hold which replica, and who may log
// in. It decides where replicas go and carries changes out step by step.
//
// It holds no rows and no table schemas (those live in the vnodes), and it
// creates nothing on a host itself: a host reads the record and makes itself
// equal to it (package node/host).
//
//	Command ──propose──▶ log ──apply──▶ View (immutable, newest one published)
//	   ▲                                  │
//	   │            facts (reports,       ▼
//	   └──────────── link states) ──▶ plan: a pure function that names the next
//	     actions' answers             step of everything unfinished
//
// A View is a value: apply makes a new one and never touches an old one. The
// plan keeps nothing between two looks, so any new mnode master takes up where
// the last one died: what is unfinished is written in the View (a group that is
// creating, a member that joins or leaves, a database that wants another number
// of replicas, a dnode that is to be dropped or has another directory, an
// arbitrator that has been replaced), everything else is asked again.
package mnode
