"""`varve cluster ...` against one broker, which is a cluster of one."""
import json


def test_one_node(ctx):
    b = ctx.broker()
    at = ("-b", b.bootstrap)
    ctx.varve("topic", "create", "a-b", "--partitions", 2, *at)
    status = json.loads(ctx.varve("cluster", "status", "--json", *at).stdout)
    assert status["healthy"] and status["verdict"] == "healthy" and status["nodes"] == [1] and status["partitions"] == 2, status
    assert ctx.varve("cluster", "status", *at).stdout.splitlines()[-1] == "healthy"
    node = json.loads(ctx.varve("cluster", "nodes", "--json", *at).stdout)
    assert node["up"] and node["role"] == "controller" and node["leads"] == 2, node
    for chosen, want in (("a-b", [0, 1]), ("a-b:1", [1]), ("a-b-1", [1]), ("a-b:1,0", [1, 0])):
        rows = [json.loads(line) for line in ctx.varve("cluster", "partitions", chosen, "--json", *at).stdout.splitlines()]
        assert [r["partition"] for r in rows] == want and all(r["isr"] == [1] and r["state"] == "ok" for r in rows), (chosen, rows)
    assert ctx.varve("cluster", "partitions", "--unhealthy", "--json", *at).stdout == ""
    said = ctx.varve("cluster", "explain", "a-b-0", *at).stdout
    assert "all is well" in said, said


def test_mistakes(ctx):
    b = ctx.broker()
    at = ("-b", b.bootstrap)
    ctx.varve("topic", "create", "t", *at)
    for args, code in ((("partitions", "t-1"), 1), (("partitions", "t:x"), 1), (("explain", "nothing"), 1), (("move", "t"), 2),
                       (("move", "t", "--replicas", "1,1"), 2), (("move", "t", "--replicas", "1", "--cancel"), 2), (("move", "t", "--cancel"), 1),
                       (("move", "t", "--replicas", "7"), 1), (("add", "9"), 1), (("remove", "9"), 1)):
        p = ctx.varve("cluster", *args, *at, check=False)
        assert p.returncode == code and p.stderr.startswith("varve cluster"), (args, p)
    p = ctx.varve("cluster", "status", "-b", "127.0.0.1:1", check=False)
    assert p.returncode == 75, p
