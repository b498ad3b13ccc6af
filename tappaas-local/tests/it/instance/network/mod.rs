mod apart;
mod bridged;
mod foreign;
mod outside;
mod private;
