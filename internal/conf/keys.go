package conf

import (
	"fmt"
	"strings"
	"time"
)

// key is one row of the table that feeds the parser, SHOW VARIABLES, tnode start
// -C and the manual.
type key struct {
	name   string
	preset string // the default, as a file would say it
	kind   kind
	unit   time.Duration // of a number without a unit, for durations
	min    int64         // in that unit
	max    int64
	port   int    // that an end point without one means
	scope  string // server or both
	shared bool   // must be equal on all hosts
	field  func(*Config) any
	doc    string
}

// limits of the durations, in their units.
const (
	maxOffline = 8_640_000 // seconds
	oneDay     = 86_400_000
)

var keys = []key{
	{name: "firstEp", kind: kindEndPoint, port: DefaultPort, scope: "both",
		field: func(c *Config) any { return &c.FirstEp },
		doc:   "host to contact at the very first start; the own end point if there is no other host yet"},
	{name: "secondEp", kind: kindEndPoint, port: DefaultPort, scope: "both",
		field: func(c *Config) any { return &c.SecondEp },
		doc:   "host to contact when firstEp does not answer"},
	{name: "fqdn", kind: kindHost, scope: "server",
		field: func(c *Config) any { return &c.FQDN },
		doc:   "own name or address, as others reach it; the name of the machine if empty"},
	{name: "bind", kind: kindHost, scope: "server",
		field: func(c *Config) any { return &c.Bind },
		doc:   "address to listen on; all if empty"},
	{name: "serverPort", preset: "6030", kind: kindInt, min: 1, max: 65535, scope: "both",
		field: func(c *Config) any { return &c.ServerPort },
		doc:   "port for the other hosts"},
	{name: "gossipPort", preset: "0", kind: kindInt, max: 65535, scope: "server",
		field: func(c *Config) any { return &c.GossipPort },
		doc:   "port for gossip, TCP and UDP; 0 means serverPort + 1"},
	{name: "gossipKey", kind: kindKey, scope: "server",
		field: func(c *Config) any { return &c.GossipKey },
		doc:   "key that encrypts gossip, the same on all hosts (openssl rand -base64 32); made from the cluster's secret if empty"},
	{name: "httpPort", preset: "6041", kind: kindInt, min: 1, max: 65535, scope: "server",
		field: func(c *Config) any { return &c.HTTPPort },
		doc:   "port for clients"},
	{name: "arbitrator", kind: kindEndPoint, port: DefaultArbitratorPort, scope: "server", shared: true,
		field: func(c *Config) any { return &c.Arbitrator },
		doc:   "end point of tarbitrator; it votes in groups with an even number of replicas"},
	{name: "dataDir", preset: "/var/lib/taos", kind: kindPath, scope: "server",
		field: func(c *Config) any { return &c.DataDir },
		doc:   "directory of the data; it is the identity of the host"},
	{name: "logDir", preset: "/var/log/taos", kind: kindPath, scope: "both",
		field: func(c *Config) any { return &c.LogDir },
		doc:   "directory of the logs"},
	{name: "numOfMnodes", preset: "3", kind: kindInt, min: 1, max: 3, scope: "server", shared: true,
		field: func(c *Config) any { return &c.NumOfMnodes },
		doc:   "replicas of the metadata, at most; no more than there are hosts"},
	{name: "offlineThreshold", preset: "864000", kind: kindDuration, unit: time.Second, min: 5, max: maxOffline, scope: "server", shared: true,
		field: func(c *Config) any { return &c.OfflineThreshold },
		doc:   "a host that is offline longer is dropped and its data made anew elsewhere"},
	{name: "balance", preset: "1", kind: kindSwitch, max: 1, scope: "server", shared: true,
		field: func(c *Config) any { return &c.Balance },
		doc:   "1: replicas are moved automatically"},
	{name: "statusInterval", preset: "1", kind: kindDuration, unit: time.Second, min: 1, max: 30, scope: "server", shared: true,
		field: func(c *Config) any { return &c.StatusInterval },
		doc:   "how often a host reports to the mnode"},
	{name: "waitReplicaTimeout", preset: "250", kind: kindDuration, unit: time.Millisecond, min: 10, max: 60_000, scope: "server",
		field: func(c *Config) any { return &c.WaitReplicaTimeout },
		doc:   "silence of a replica until the arbitrator stands in for it; 50 ms and more below electionTimeout"},
	{name: "electionTimeout", preset: "500", kind: kindDuration, unit: time.Millisecond, min: 100, max: 60_000, scope: "server", shared: true,
		field: func(c *Config) any { return &c.ElectionTimeout },
		doc:   "silence of a master until another is elected; a tick is a tenth of it"},
	{name: "walKeepForReplica", preset: "1GiB", kind: kindBytes, min: 64 << 10, max: 1 << 40, scope: "server",
		field: func(c *Config) any { return &c.WALKeepForReplica },
		doc:   "log of a vgroup that is kept for a replica that is away; what it missed beyond that it gets as a copy of the data"},
	{name: "maxRetryWaitTime", preset: "20000", kind: kindDuration, unit: time.Millisecond, max: oneDay, scope: "both",
		field: func(c *Config) any { return &c.MaxRetryWaitTime },
		doc:   "how long a statement waits for a master before it fails"},
	{name: "restfulRowLimit", preset: "-1", kind: kindInt, min: -1, max: 1<<31 - 1, scope: "server",
		field: func(c *Config) any { return &c.RestfulRowLimit },
		doc:   "rows of one answer over HTTP, at most; -1 means all"},
	{name: "httpCodeServerError", preset: "0", kind: kindSwitch, max: 1, scope: "server",
		field: func(c *Config) any { return &c.HTTPCodeServerError },
		doc:   "1: errors of SQL answer with an HTTP code of their own instead of 200"},
	{name: "timezone", kind: kindZone, scope: "both", shared: true,
		field: func(c *Config) any { return &c.Timezone },
		doc:   "zone of times without one, such as Europe/Berlin; that of the machine if empty"},
	{name: "debugFlag", preset: "131", kind: kindInt, max: 255, scope: "both",
		field: func(c *Config) any { return &c.DebugFlag },
		doc:   "131 for what an operator needs, 135 and 143 for debugging"},
}

// later are keys of ours whose feature this version does not have.
var later = words(`smlAutoCreateDB`)

// known are keys of TDengine 2.x and 3.x without a meaning here. They are
// accepted, so that an old file can be used as it is.
var known = words(`
	role supportVnodes balanceInterval mnodeEqualVnodeNum replica quorum walLevel fsync days keep comp cache
	blocks minRows maxRows maxVgroupsPerDb maxTablesPerVnode minTablesPerVnode tableIncStepPerVnode vnodeBak
	locale charset http maxSQLLength minimalDataDirGB minimalLogDirGB minimalTmpDirGB minimalTempDirGB monitor
	shellActivityTimer rpcTimer rpcMaxTime rpcForceTcp rpcRetryLimit rpcRetryInterval
	arbHeartBeatIntervalSec arbCheckSyncIntervalSec arbSetAssignedTimeoutSec arbHeartBeatMissTimeoutSec
	update cacheLast cacheLastRow partitions minIntervalTime maxNumOfDistinctRes maxNumOfOrderedRes
	maxStreamCompDelay maxFirstStreamCompDelay retryStreamCompDelay streamCompDelayRatio streamMax
	maxConnections maxShellConns maxMeterConnections maxMgmtConnections maxUsers maxDbs maxTables maxAccts
	maxVnodeConnections maxVgroups minSlidingTime minRowsPerFileBlock numOfThreadsPerCore numOfCommitThreads
	numOfRpcThreads numOfTaskQueueThreads numOfMnodeReadThreads numOfVnodeQueryThreads
	numOfVnodeFetchThreads numOfVnodeRsmaThreads numOfQnodeQueryThreads numOfSnodeSharedThreads
	numOfSnodeUniqueThreads numOfRpcSessions numOfLogLines logKeepDays asyncLog compressMsgSize compressColData
	ratioOfQueryCores queryBufferSize retrieveBlockingModel keepColumnName maxBinaryDisplayWidth
	tempDir tmpDir scriptDir configDir cfgVersion telemetryReporting telemetryInterval telemetryServer
	telemetryPort crashReporting enableCoreFile httpMaxThreads httpEnableRecordSql httpEnableCompress
	httpDebugFlag httpDbNameMandatory enableStream enableMicrosecond enableRecordSql tsdbMetaCompactRatio
	tsdbDebugFlag slaveQuery offlineInterval mnodePeerPort maxTmrCtrl mqttBrokerAddress defaultUser defaultPass
	monitorInterval monitorFqdn monitorPort monitorMaxLogs monitorComp monitorForceV2 audit auditFqdn auditPort
	queryPolicy querySmaOptimize queryPlannerTrace queryNodeChunkSize queryUseNodeAllocator queryRspPolicy
	queryMaxConcurrentTables queryNoFetchTimeoutSec countAlwaysReturnValue tagFilterCache slowLogThreshold
	slowLogScope smlChildTableName smlTagName smlTsDefaultName smlDot2Underline smlBatchSize
	maxInsertBatchRows maxShellConns maxMemUsedByInsert useAdapter keepAliveIdle shareConnLimit
	readTimeout timeToGetAvailableConn walFsyncDataSizeLimit walForceRepair udf udfdResFuncs udfdLdLibPath
	ttlUnit ttlPushInterval ttlChangeOnWrite ttlBatchDropNum ttlFlushThreshold mqRebalanceInterval
	tmqMaxTopicNum uptimeInterval timeseriesThreshold filterScalarMode metaCacheMaxSize randErrorChance
	syncHeartbeatInterval syncHeartbeatTimeout syncElectInterval syncSnapReplMaxWaitN syncLogBufferMemoryAllowed
	vndCommitMaxInterval mndSdbWriteDelta mndLogRetention cacheLazyLoadThreshold
	transPullupInterval compactPullupInterval trimVDbIntervalSec s3Accesskey s3Endpoint s3BucketName
	disableStream streamBufferSize streamSinkDataRate checkpointInterval concurrentCheckpoint
	maxStreamBackendCache avx avx512Enable simdEnable SSE42 AVX512 enableWhiteList experimental
	assert supportDataDirNum diskIDCheckEnabled encryptAlgorithm encryptScope masterKeyAlgo bypassFlag
	dDebugFlag mDebugFlag sDebugFlag vDebugFlag rpcDebugFlag tmrDebugFlag cDebugFlag jniDebugFlag odbcDebugFlag
	uDebugFlag qDebugFlag wDebugFlag sdbDebugFlag cqDebugFlag tqDebugFlag fsDebugFlag udfDebugFlag smaDebugFlag
	idxDebugFlag tdbDebugFlag metaDebugFlag stDebugFlag sndDebugFlag monDebugFlag mnodeDebugFlag
	httpDebugFlag mqttDebugFlag monitorDebugFlag arbDebugFlag simDebugFlag balanceDebugFlag syncDebugFlag
`)

// words maps the lower-case form of each word to its spelling.
func words(s string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(s) {
		m[strings.ToLower(w)] = w
	}
	return m
}

// byName finds a key by its name in lower case.
var byName = func() map[string]*key {
	m := map[string]*key{}
	for i := range keys {
		m[strings.ToLower(keys[i].name)] = &keys[i]
	}
	return m
}()

// limits is the range of k, for people.
func (k *key) limits() string {
	switch k.kind {
	case kindInt:
		return fmt.Sprintf("%d to %d", k.min, k.max)
	case kindSwitch:
		return "0 or 1"
	case kindDuration:
		return formatDuration(time.Duration(k.min)*k.unit) + " to " + formatDuration(time.Duration(k.max)*k.unit)
	case kindBytes:
		return formatBytes(uint64(k.min)) + " to " + formatBytes(uint64(k.max))
	case kindEndPoint:
		return fmt.Sprintf("host[:port], port %d if none", k.port)
	case kindHost:
		return "name or address"
	case kindZone:
		return "IANA name"
	case kindKey:
		return "32 bytes in base64 or hexadecimal"
	}
	return "absolute path"
}

// Manual is the table of keys in Markdown, for the operator's manual.
func Manual() string {
	var b strings.Builder
	b.WriteString("| key | default | range | meaning |\n| --- | --- | --- | --- |\n")
	def := Default()
	for i := range keys {
		k := &keys[i]
		preset := k.get(&def)
		if preset == "" {
			preset = "empty"
		}
		doc := k.doc
		if k.shared {
			doc += "; equal on all hosts"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.name, preset, k.limits(), doc)
	}
	return b.String()
}
