"""Going on with a training, and checkpoints by address."""

import copy
import functools
import hashlib
import http.server
import os
import threading

import pytest
import torch
from mmengine.runner import Runner
from tiny import runner_config, write_coco
from torch import nn

from mmdiffdet.engine import load_checkpoint_file
from mmdiffdet.engine.checkpoint import check_finite, load_weights, sha256_of_checkpoint
from mmdiffdet.engine.download import check_is_file, download
from mmdiffdet.engine.resume import latest_checkpoint, lay_out_states, use_resume
from mmdiffdet.ledger import Ledger, sha256_of_file


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('resume')
    root = write_coco(folder / 'data')
    train(runner_config(root, folder / 'work'))
    return root, folder / 'work/iter_2.pth'


def train(cfg, max_iters=2, **changes):
    cfg.train_cfg.max_iters = max_iters
    cfg.merge_from_dict(changes)
    cfg.experiment_name = f'{cfg.work_dir}{max_iters}{sorted(changes)}'.replace('/', '_')
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def folder_with(tmp_path, checkpoint, *names):
    for name in names:
        os.link(checkpoint, tmp_path / name)
    return str(tmp_path)


@pytest.mark.parametrize('said', [None, '', 'elsewhere/iter_2.pth'])
def test_without_last_checkpoint_the_newest_whole_one_is_taken(tmp_path, trained, said):
    folder = folder_with(tmp_path, trained[1], 'iter_2.pth', 'iter_10.pth')
    (tmp_path / 'iter_11.pth').write_bytes(trained[1].read_bytes()[:2000])  # cut
    if said is not None:
        (tmp_path / 'last_checkpoint').write_text(said)
    assert latest_checkpoint(folder) == f'{folder}/iter_10.pth'
    cfg = runner_config(trained[0], tmp_path)
    cfg.load_from = 'teacher.pth'
    use_resume(cfg, 'auto')
    assert cfg.resume and cfg.load_from == f'{folder}/iter_10.pth'


def test_a_first_start_has_nothing_to_resume(tmp_path, trained):
    cfg = runner_config(trained[0], tmp_path)
    cfg.load_from = 'start.pth'
    use_resume(cfg, 'auto')
    assert not cfg.resume and cfg.load_from == 'start.pth'
    (tmp_path / 'iter_2.pth').write_bytes(b'cut')  # by a kill in the first save
    use_resume(cfg, 'auto')
    assert not cfg.resume and cfg.load_from == 'start.pth'
    (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_4.pth')
    with pytest.raises(FileNotFoundError, match='names elsewhere/iter_4.pth'):
        use_resume(cfg, 'auto')


def test_weights_alone_are_no_training(tmp_path, trained):
    content = load_checkpoint_file(trained[1])
    torch.save(dict(state_dict=content['state_dict'], meta=content['meta']), tmp_path / 'w.pth')
    cfg = runner_config(trained[0], tmp_path / 'work')
    use_resume(cfg, str(tmp_path / 'w.pth'))
    with pytest.raises(ValueError, match=r'w.pth: it holds weights alone .*load_from'):
        train(cfg)


def test_another_learning_rate_is_not_silently_the_old_one(tmp_path, trained):
    cfg = runner_config(trained[0], tmp_path)
    use_resume(cfg, str(trained[1]))
    with pytest.raises(ValueError, match='optimizer.lr makes 0.1 .*was trained with 0.0005'):
        train(copy.deepcopy(cfg), 3, **{'optim_wrapper.optimizer.lr': 0.1})
    train(cfg, 3)  # more iterations are what resuming is for
    assert (tmp_path / 'iter_3.pth').exists() or (tmp_path / 'last_checkpoint').exists()


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(message_hub=3), 'message_hub is int'),
        (dict(optimizer={}), 'optimizer has no param_groups'),
        (dict(param_schedulers=None), 'param_schedulers is NoneType'),
        (dict(meta=dict(epoch=0, iter='2')), "meta.iter is '2'"),
    ],
)
def test_a_state_that_is_none_is_named(tmp_path, trained, change, said):
    content = {**torch.load(trained[1], weights_only=False), **change}
    torch.save(content, tmp_path / 'bad.pth')
    cfg = runner_config(trained[0], tmp_path / 'work')
    use_resume(cfg, str(tmp_path / 'bad.pth'))
    with pytest.raises(ValueError, match=f'bad.pth: .*{said}'):
        train(cfg, 3)


@pytest.mark.parametrize(
    'content, said',
    [
        ([1], 'holds list'),
        (dict(state_dict=[1]), 'state_dict is list'),
        (dict(state_dict={}), 'state_dict is empty'),
        (dict(state_dict=dict(a=3)), 'a is int'),
        (dict(state_dict={3: torch.zeros(1)}), '3 of state_dict is no name'),
        (dict(state_dict=dict(a=torch.zeros(2).to_sparse())), 'a is a sparse_coo tensor'),
        (dict(state_dict=dict(a=torch.zeros(1)), meta='x'), "meta is 'x'"),
        (dict(state_dict=dict(a=torch.zeros(1)), meta=dict(dataset_meta=3)), 'list of classes'),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content, said):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'x.pth.*{said}'):
        load_checkpoint_file(tmp_path / 'x.pth')


def test_weights_that_were_rounded_are_of_another_model(tmp_path, trained):
    content = load_checkpoint_file(trained[1])
    name = 'backbone.bn1.running_var'
    content['state_dict'][name] = content['state_dict'][name].long()
    torch.save(content, tmp_path / 'x.pth')
    cfg = runner_config(trained[0], tmp_path / 'work')
    cfg.load_from = str(tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'{name} is torch.int64, the model has torch.float32'):
        Runner.from_cfg(cfg).test()


def test_variances_are_not_negative():
    check_finite({'bn.running_var': torch.zeros(2)}, 'x.pth')
    with pytest.raises(ValueError, match=r'x.pth.*bn.running_var'):
        check_finite({'bn.running_var': torch.tensor([1.0, -1.0])}, 'x.pth')


def test_special_files_are_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    for path in (tmp_path / 'pipe.pth', '/dev/zero', tmp_path):
        with pytest.raises(ValueError, match='not a file'):
            load_checkpoint_file(path)
    (tmp_path / 'link.pth').symlink_to('nothing.pth')
    with pytest.raises(FileNotFoundError, match='link.pth does not exist'):
        check_is_file(tmp_path / 'link.pth', f'checkpoint {tmp_path}/link.pth')


@pytest.fixture
def web(tmp_path, monkeypatch, trained):
    """A web server with checkpoints, and an empty cache."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    for name in ('a', 'b'):
        (tmp_path / 'web' / name).mkdir(parents=True)
        torch.save(dict(state_dict=dict(x=torch.zeros(len(name)))), tmp_path / f'web/{name}/m.pth')
    torch.save(dict(state_dict=dict(x=torch.ones(3))), tmp_path / 'web/b/m.pth')
    os.link(trained[1], tmp_path / 'web/iter_2.pth')

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / 'web'))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}', tmp_path / 'web'
    server.shutdown()
    server.server_close()


def test_two_files_of_one_name_are_never_mixed_up(web):
    address, folder = web
    paths = [download(f'{address}/{name}/m.pth') for name in ('a', 'b')]
    assert paths[0] != paths[1]
    assert [len(load_checkpoint_file(f'{address}/{n}/m.pth')['state_dict']['x']) for n in 'ab'] == [
        1,
        3,
    ]
    # as a teacher's are loaded
    module = nn.ParameterDict(dict(x=nn.Parameter(torch.zeros(3))))
    load_weights(module, f'{address}/b/m.pth', 'x')
    assert module['x'].sum() == 3
    assert sha256_of_checkpoint(f'{address}/b/m.pth') == sha256_of_file(folder / 'b/m.pth')
    with pytest.raises(ValueError, match=f'{address}/none.pth cannot be downloaded'):
        load_checkpoint_file(f'{address}/none.pth')


def test_a_name_that_tells_its_hash_is_trusted_if_it_is_true(web):
    address, folder = web
    content = (folder / 'a/m.pth').read_bytes()
    name = f'net-{hashlib.sha256(content).hexdigest()[:8]}.pth'
    cache = os.path.join(torch.hub.get_dir(), 'checkpoints')
    os.makedirs(cache)
    for there, kept in ((content, True), (b'another', False)):
        with open(os.path.join(cache, name), 'wb') as file:
            file.write(there)
        (folder / name).write_bytes(content)
        assert (download(f'{address}/{name}').name == name) == kept


def test_a_checkpoint_by_address_is_tested_and_noted(web, tmp_path, trained):
    address, folder = web
    cfg = runner_config(trained[0], tmp_path / 'work')
    cfg.load_from = f'{address}/iter_2.pth'
    cfg.custom_hooks = [dict(type='LedgerHook', path=str(tmp_path / 'rows.tsv'))]
    cfg.experiment_name = 'address'
    Runner.from_cfg(cfg).test()
    (row,) = Ledger(tmp_path / 'rows.tsv').read()
    assert row.checkpoint == cfg.load_from
    assert row.checkpoint_sha256 == sha256_of_file(folder / 'iter_2.pth')
    cfg = runner_config(trained[0], tmp_path / 'more')
    cfg.load_from = f'{address}/iter_2.pth'
    train(cfg)
    origin = load_checkpoint_file(tmp_path / 'more/iter_2.pth')['meta']['origin']
    assert origin == dict(path=cfg.load_from, sha256=sha256_of_file(folder / 'iter_2.pth'))


def test_states_lie_as_their_weights():
    """A checkpoint of a CPU has them contiguous, a GPU wants them channels last."""
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3)
    before = torch.optim.AdamW(conv.parameters())
    conv(torch.randn(1, 3, 5, 5)).sum().backward()
    before.step()
    conv.to(memory_format=torch.channels_last)
    after = torch.optim.AdamW(conv.parameters())
    after.load_state_dict(before.state_dict())
    moment = after.state[conv.weight]['exp_avg']
    assert moment.stride() != conv.weight.stride()
    lay_out_states(after)
    found = after.state[conv.weight]
    assert found['exp_avg'].stride() == found['exp_avg_sq'].stride() == conv.weight.stride()
    assert torch.equal(found['exp_avg'], moment) and found['step'] == 1
