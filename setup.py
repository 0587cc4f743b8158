import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(r"'(.+)'", (root / 'mmdiffdet/version.py').read_text()).group(1)

setup(
    name='mmdiffdet',
    version=version,
    description='DiffusionDet research software on the MMDetection stack',
    long_description=(root / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmdiffdet', 'mmdiffdet.*']),
    # links in a clone, copies in an installed package
    package_data={
        'mmdiffdet': [
            '.mim/model-index.yml',
            '.mim/configs/**/*.py',
            '.mim/tools/**/*.py',
            '.mim/tools/*.sh',
            'reports/viewer.css',
            'reports/viewer.js',
        ]
    },
    entry_points={'console_scripts': ['mmdiffdet=mmdiffdet.__main__:main']},
    # The tests run with torch 2.13.0, diffusers 0.42.1, numpy 2.2.6 and scipy
    # 1.17.1. mmcv, mmengine and mmdet are the maintained continuations, under
    # the same import names. With builds of your own: pip install --no-deps.
    install_requires=[
        'torch>=2.11,<2.15',
        'onedl-mmcv>=2.3.6,<2.4',
        'onedl-mmengine>=0.10.12,<0.11',
        'onedl-mmdetection>=3.5.1,<3.6',
        'diffusers>=0.41,<0.43',
        'numpy>=2.2,<2.3',
        'pandas>=2.2,<3',
        'scipy>=1.15,<2',
        'pycocotools>=2.0.11,<2.1',
        'safetensors>=0.8,<1',
        'filelock>=3.16',
    ],
    extras_require={
        'demo': ['scikit-image>=0.25,<0.27', 'scikit-learn>=1.5,<2'],
        'export': ['onnx>=1.18,<2', 'onnxscript>=0.5,<1', 'onnxruntime>=1.20,<2'],
        'lvis': ['lvis>=0.5.3,<0.6'],
        'slurm': ['submitit>=1.5,<2'],
        'test': [
            'pytest>=8,<10',
            'pytest-xdist>=3.6,<4',
            'scikit-image>=0.25,<0.27',
            'scikit-learn>=1.5,<2',
            'lvis>=0.5.3,<0.6',
            'submitit>=1.5,<2',
        ],
        'lint': ['ruff>=0.14,<0.18'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
